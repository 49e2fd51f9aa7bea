"""``jscope convert``: from one format to another, variable by variable."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import click
import ml_dtypes
import numpy as np

from .. import formats
from .._dtypes import converted, lost_text
from .._errors import CheckpointExistsError, CheckpointValueError, listed
from .._tree.text import bytes_text
from ..formats._file_entry import Array, Entry
from ..formats._sharded_safetensors import size_of
from . import _command
from ._command import CommandError
from ._new_checkpoint import NAMES, create, format_of
from ._new_names import renames, with_mapped_names, with_new_names
from ._terminal import print_json, progress, say
from ._variables import variables_of


@click.command(
    "convert",
    epilog=_command.examples(
        "jscope convert model.ckpt-1000 model.safetensors --drop '**/Adam*'",
        "jscope convert model.npz out/model.ckpt-0 --rename encoder=bert --dtype float32",
        "jscope convert bert_model.ckpt runs/bert/0",
        "jscope convert runs/llama exported --map names.json --max-shard-size 5GB",
    ),
)
@_command.checkpoint("src")
@_command.checkpoint("dst")
@click.option("--to", "format", type=click.Choice(NAMES), help="The format, if not that of DST.")
@click.option("--select", metavar="SELECTOR", multiple=True, help="Take these only.")
@click.option("--drop", metavar="SELECTOR", multiple=True, help="Leave these out.")
@click.option("--rename", metavar="OLD=NEW", multiple=True, help="Call a variable or scope so.")
@click.option("--map", "map_file", metavar="FILE", help='JSON: {"old/": "new/"}, * in both.')
@click.option("--max-shard-size", metavar="SIZE", help="DST is a directory of safetensors, as 5GB.")
@click.option("--dtype", help="Of floating-point variables, such as bfloat16; others stay.")
@_command.as_json
def command(
    src: str,
    dst: str,
    format: str | None,
    select: tuple[str, ...],
    drop: tuple[str, ...],
    rename: tuple[str, ...],
    map_file: str | None,
    max_shard_size: str | None,
    dtype: str | None,
    as_json: bool,
) -> None:
    """Convert a checkpoint. DST may not exist; only one variable at a time is in memory."""
    shard_size = None if max_shard_size is None else _shard_size(max_shard_size, format, dst)
    if rename and map_file is not None:
        raise CommandError("--map and --rename exclude each other", "write all names in the file")
    source = variables_of(formats.open(src))
    format = format or ("safetensors" if shard_size else format_of(dst))
    if format is None:
        raise CommandError(
            f"{dst!r} doesn't show the format",
            "end it with .ckpt, .safetensors, .npz or a step as in runs/bert/1000, or write --to "
            + "|".join(NAMES),
        )
    variables = _command.chosen(source, select)
    if drop:
        dropped = _command.chosen(variables, drop)
        variables = {name: v for name, v in variables.items() if name not in dropped}
    keys = [name for name, variable in variables.items() if variable.kind.startswith("key<")]
    if keys:
        raise CommandError(
            f"{listed(keys)}: PRNG keys, which only jscope.Saver stores as keys",
            " ".join(f"--drop {name!r}" for name in keys[:3]),
        )
    if map_file is None:
        variables = with_new_names(variables, renames(rename))
    else:
        variables = with_mapped_names(variables, map_file)
    if dtype is not None:
        wanted = _wanted_dtype(dtype)
        variables = {name: _converted_entry(name, v, wanted) for name, v in variables.items()}
    nbytes = sum(v.nbytes for v in variables.values())
    _write_all(format, dst, variables, shard_size)
    if as_json:
        print_json({"path": dst, "format": format, "variables": len(variables), "bytes": nbytes})
    else:
        say(
            (f"{dst}: {len(variables):,} variables, {bytes_text(nbytes)}", "bold green"),
            f"   {format}",
        )


def _shard_size(text: str, format: str | None, dst: str) -> int:
    """The bytes that ``convert --max-shard-size`` means."""
    size = size_of(text)
    if not size:
        raise CommandError(f"--max-shard-size {text!r} is not a size", "5GB, 500MB, 64KB or bytes")
    if format not in (None, "safetensors"):
        message = f"--max-shard-size is for safetensors, and not for --to {format}"
        raise CommandError(message, "leave one of them out")
    if format_of(dst) is not None:
        raise CommandError(
            f"with --max-shard-size DST is a directory, and {dst!r} is named as a checkpoint",
            "name a directory: it gets model.safetensors, or shards and their index",
        )
    return size


def _write_all(
    format: str, dst: str, variables: Mapping[str, Entry], shard_size: int | None
) -> None:
    """Write what ``convert`` has read, variable by variable."""
    nbytes = sum(v.nbytes for v in variables.values())
    try:
        with (
            create(format, dst, variables, shard_size) as writer,
            progress("converting", nbytes) as advance,
        ):
            for name in sorted(variables):
                writer.write(name, variables[name].read())
                advance(variables[name].nbytes)
    except CheckpointExistsError as error:
        raise CommandError(error.facts, "write to another DST, or remove what is there") from error
    except CheckpointValueError as error:
        hint = "--drop NAME for each of them, or --to another format"
        raise CommandError(error.facts, hint) from error


def _wanted_dtype(name: str) -> np.dtype[Any]:
    """The floating-point dtype that ``convert --dtype`` means."""
    try:
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        if _is_floating(dtype):
            return dtype
    except TypeError:
        pass
    hint = "float32, float16, bfloat16, float8_e4m3fn, ..."
    raise CommandError(f"--dtype {name!r} is not a floating-point dtype", hint)


def _is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether ``convert --dtype`` applies to a dtype."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def _converted_entry(name: str, variable: Entry, dtype: np.dtype[Any]) -> Entry:
    """A variable to convert, in the dtype of ``--dtype`` if it is floating-point."""
    if not _is_floating(variable.dtype):
        return variable
    return dataclasses.replace(
        variable,
        dtype=dtype,
        nbytes=variable.size * dtype.itemsize,
        read=functools.partial(_read_converted, name, variable.read, dtype),
        kind=dtype.name,
    )


def _read_converted(name: str, read: Callable[[], Array], dtype: np.dtype[Any]) -> Array:
    """Read an array and convert it to the dtype of ``convert --dtype``, if that can hold it."""
    array = read()
    result, lost = converted(array, dtype)
    if lost.count:
        raise CommandError(
            lost_text(name, array.dtype.name, array.size, dtype, lost),
            f"convert without it: --drop {name!r}",
        )
    return result
