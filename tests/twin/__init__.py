"""One program, run twice: through TensorFlow 1's graph mode, and through jscope.

A program is a function of one argument, the `Library`, and reads like TF1 code: there is a
current scope. Each library runs it and tells what happened, an `Outcome`; `compare` looks for
differences. jscope runs a program while declaring, and then bound to a tree.

* `library`: the verbs that programs use;
* `tensorflow1`, `jscope_`: the two that have them;
* `outcome`: what is compared, and which errors say the same;
* `programs`: the programs; `random_programs`: how others are drawn;
* `deviations`: where jscope differs on purpose.
"""
