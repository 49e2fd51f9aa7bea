"""``jscope verify``: every checksum of a checkpoint."""

import warnings

import click

from .. import formats
from .._errors import CheckpointError, CheckpointNotFoundError, CheckpointWarning
from .._tree.text import bytes_text, counted
from ..formats._file_entry import Entry
from ..formats._source import Source
from . import _command
from ._terminal import print_json, progress, say
from ._variables import variables_of


@click.command("verify")
@_command.checkpoint()
@_command.as_json
def command(ckpt: str, as_json: bool) -> int:
    """Read all of a checkpoint and compare every checksum. Exit status 1 if it is damaged.

    A safetensors file has no checksums: the command checks that it is whole and can be read.
    """
    damaged: dict[str, str] = {}
    source, variables = _opened(ckpt, damaged)
    if source is not None:
        _check_source(source, damaged)
    nbytes = sum(variable.nbytes for variable in variables.values())
    with progress("verifying", nbytes) as advance:
        for name, variable in variables.items():
            try:
                variable.read()
            except CheckpointError as error:
                damaged[name] = error.facts
            advance(variable.nbytes)
    facts = {
        "path": ckpt if source is None else str(source.path),
        "format": None if source is None else source.format,
        "checksum": None if source is None else source.checksum or None,
        "variables": len(variables),
        "bytes": nbytes,
        "damaged": damaged,
    }
    if as_json:
        print_json(facts)
    else:
        _print_damage(source, variables, damaged, nbytes)
    return int(bool(damaged))


def _opened(ckpt: str, damaged: dict[str, str]) -> tuple[Source | None, dict[str, Entry]]:
    """The checkpoint to verify, and its variables; None, and recorded, if it can't be opened."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CheckpointWarning)
        try:
            source = formats.open(ckpt)
            variables = variables_of(source)
        except CheckpointNotFoundError:
            raise
        except CheckpointError as error:
            damaged[ckpt] = error.facts
            return None, {}
    # Of newer steps, which can't be opened.
    skipped = [str(w.message) for w in caught if issubclass(w.category, CheckpointWarning)]
    if skipped:
        damaged[ckpt] = "\n  ".join(skipped)
    return source, variables


def _check_source(source: Source, damaged: dict[str, str]) -> None:
    """Verify a checkpoint's files; damage is recorded."""
    try:
        source.check()
    except (ValueError, OSError) as error:
        damaged[str(source.path)] = f"{source.path} is damaged: {error}"


def _print_damage(
    source: Source | None, variables: dict[str, Entry], damaged: dict[str, str], nbytes: int
) -> None:
    """Print what ``verify`` found: the damage, and how many variables are intact."""
    for name, why in damaged.items():
        say((f"damaged: {name}", "bold red"))
        say(f"  {why}")
    if source is None:
        return
    count = len(variables)
    how = f"{source.checksum} of each" if source.checksum else "no checksums"
    if damaged:
        intact = count - len(damaged.keys() & variables.keys())
        result = (f"{intact:,} of {count:,} variables are intact", "bold red")
    else:
        what = "intact" if source.checksum else "readable"
        result = (f"{counted(count, 'variable')}, {bytes_text(nbytes)}: all {what}", "bold green")
    say(result, f"   {source.format}, {how}")
