"""The command ``jscope``: look into, compare, convert and verify checkpoints of any format.

One file per command; `_app` puts them together and turns errors into a line and a hint. The
formats are in `formats`: each opens a path as a `formats.Checkpoint`, and most write one.

What needs JAX, Rich or a format's library imports it when it is used: ``ls``, ``show`` and
``verify`` of TensorFlow's checkpoints, npz and safetensors files start without JAX.
"""

import sys


def main() -> int:
    """The entry point: run the command of ``sys.argv``, and return its exit status."""
    try:
        import click  # noqa: F401
    except ImportError:
        print(
            "jscope: error: the command line needs click, which is not installed.\n"
            "hint: pip install 'jscope-jax[cli]'",
            file=sys.stderr,
        )
        return 2
    from ._app import run

    return run(sys.argv[1:])
