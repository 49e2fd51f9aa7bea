"""What is done to a Saver to see whether it keeps its promises.

`injector.c` breaks file operations, `disk` forgets what was not synced, `damage` flips bits; and
processes, forked by `server` in a few milliseconds each, save, restore, train, die and go on.
`tests/prove_saver.py` does all of it at full size, the tests a part.
"""
