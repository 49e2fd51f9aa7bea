"""``jscope verify``: every checksum of a checkpoint."""

import warnings
from collections.abc import Callable

import click

from .._errors import CheckpointError, CheckpointNotFoundError, CheckpointWarning
from .._tree.text import bytes_text
from . import _command
from ._checkpoint import Checkpoint, open_checkpoint
from ._terminal import counted, print_json, progress, say


@click.command("verify")
@_command.checkpoint()
@_command.as_json
def command(ckpt: str, as_json: bool) -> int:
    """Read all of a checkpoint and compare every checksum. Exit status 1 if it is damaged.

    A safetensors file has no checksums: the command checks that it is whole and can be read.
    """
    damaged: dict[str, str] = {}
    opened = _opened(ckpt, damaged)
    variables = {} if opened is None else opened.variables
    if opened is not None:
        _noting(damaged, opened.path, opened.check)
    nbytes = sum(variable.nbytes for variable in variables.values())
    with progress("verifying", nbytes) as advance:
        for name, variable in variables.items():
            _noting(damaged, name, variable.read)
            advance(variable.nbytes)
    facts = {
        "path": ckpt if opened is None else opened.path,
        "format": None if opened is None else opened.format,
        "checksum": None if opened is None else opened.checksum or None,
        "variables": len(variables),
        "bytes": nbytes,
        "damaged": damaged,
    }
    if as_json:
        print_json(facts)
    else:
        _say(opened, damaged, nbytes)
    return int(bool(damaged))


def _opened(ckpt: str, damaged: dict[str, str]) -> Checkpoint | None:
    """The checkpoint; None, and recorded, if it can't be opened."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CheckpointWarning)
        try:
            opened = open_checkpoint(ckpt)
        except CheckpointNotFoundError:
            raise
        except CheckpointError as error:
            damaged[ckpt] = error.facts
            return None
    # Of newer steps, which can't be opened.
    skipped = [str(w.message) for w in caught if issubclass(w.category, CheckpointWarning)]
    if skipped:
        damaged[ckpt] = "\n  ".join(skipped)
    return opened


def _noting(damaged: dict[str, str], name: str, check: Callable[[], object]) -> None:
    try:
        check()
    except CheckpointError as error:
        damaged[name] = error.facts


def _say(opened: Checkpoint | None, damaged: dict[str, str], nbytes: int) -> None:
    for name, why in damaged.items():
        say((f"damaged: {name}", "bold red"))
        say(f"  {why}")
    if opened is None:
        return
    count = len(opened.variables)
    how = f"{opened.checksum} of each" if opened.checksum else "no checksums"
    if damaged:
        intact = count - len(damaged.keys() & opened.variables.keys())
        result = (f"{intact:,} of {count:,} variables are intact", "bold red")
    else:
        what = "intact" if opened.checksum else "readable"
        result = (f"{counted(count, 'variable')}, {bytes_text(nbytes)}: all {what}", "bold green")
    say(result, f"   {opened.format}, {how}")
