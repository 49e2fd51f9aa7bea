"""A process that lists the variables of a checkpoint, and says how long that took.

The clock starts before anything is imported.

Imports: standard library; jscope or TensorFlow once the clock runs.
"""

import time

BEGIN = time.perf_counter()

if __name__ == "__main__":
    import sys

    _, library, prefix = sys.argv
    if library == "jscope":
        from jscope.tf_checkpoint import list_variables
    else:
        from tensorflow.train import list_variables
    count = len(list_variables(prefix))
    seconds = time.perf_counter() - BEGIN
    print(f"[{seconds}, {count}]")
