"""Equal blocks of four dense layers, each with dropout, in one scan with rematerialisation.

Little else is computed, so what a random draw costs shows. In three frameworks, with the same
functions as in `t5` and `s5`; there is no state.
"""
