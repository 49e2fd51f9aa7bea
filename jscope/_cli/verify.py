"""``jscope verify``: every checksum of a checkpoint.

Imports: `_options`, `_progress`, `_terminal`, `formats`; click.
"""

import click

from .._errors import CheckpointError
from .._table import bytes_text
from . import _options
from ._progress import progress
from ._terminal import print_json, say
from .formats._opening import open_checkpoint


@click.command("verify")
@_options.checkpoint()
@_options.as_json
def command(ckpt: str, as_json: bool) -> int:
    """Read all of a checkpoint and compare every checksum. Exit status 1 if it is damaged.

    A safetensors file has no checksums: that it is whole, and can be read, is all to be said.
    """
    opened = open_checkpoint(ckpt)
    damaged: dict[str, str] = {}
    try:
        opened.check()
    except CheckpointError as error:
        damaged[""] = str(error)
    with progress("verifying", sum(v.nbytes for v in opened.variables.values())) as advance:
        for name, variable in opened.variables.items():
            try:
                variable.read()
            except CheckpointError as error:
                damaged[name] = str(error)
            advance(variable.nbytes)
    count, nbytes = len(opened.variables), sum(v.nbytes for v in opened.variables.values())
    if as_json:
        print_json(
            {
                "path": opened.path,
                "format": opened.format,
                "checksum": opened.checksum or None,
                "variables": count,
                "bytes": nbytes,
                "damaged": damaged,
            }
        )
    else:
        for name, why in damaged.items():
            say((f"damaged: {name or opened.path}", "bold red"))
            say(f"  {why}")
        how = f"{opened.checksum} of each" if opened.checksum else "no checksums in this format"
        bad = sum(map(bool, damaged))
        result = (
            f"{count - bad:,} of {count:,} variables are sound"
            if damaged
            else (f"{count:,} variable{'s' * (count != 1)}, {bytes_text(nbytes)}: all sound")
        )
        say((result, "bold red" if damaged else "bold green"), f"   {opened.format}, {how}")
    return int(bool(damaged))
