"""jscope's own checkpoints, whose index or state file someone else wrote: the checksum is right.

`mutations` replaces every member of a file, at any depth, by every text of `HOSTILE`, and removes
it. `look` reads the result in every way there is. Whatever is read must be what was saved, and what
can't be must be a `CheckpointError`; `watching_files` tells which paths were looked at.

Imports: jscope, JAX and NumPy.
"""

import builtins
import contextlib
import copy
import dataclasses
import glob
import io
import json
import os
import resource
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from saver_faults.trees import packing_up_to

import jscope as js
from jscope._cli import _app
from jscope.formats._checksums import crc32c_of
from jscope.formats._own_state import read_state, write_state
from jscope.formats._own_steps import checkpoints
from jscope.saver import Saver, _saver
from jscope.saver._retention import Retention

DEEP = 100_000
# As JSON spells them, since some can't be had from Python's values.
HOSTILE = [
    *("null", "true", "false", "0", "1", "-1", "2", "0.5", "-0.0", "1e308", "1e999", "NaN"),
    *(str(1 << bits) for bits in (31, 32, 36, 40, 63, 64)),
    *(str((1 << 63) - 1), "1" + "0" * 400, "1" * 5000),
    *('""', '"x"', '"/"', '".."', '"object"', '"float32"', '"V8"', '"python int"', '"key<fry>"'),
    *('"nan"', '"packed"', '"orbax"', '"index"', '"packed.bin"', '"0"', '"\\u0000"', '"\\ud800"'),
    *("[]", "[[]]", "[1]", "[-1]", "[1.0]", "[true]", "[null]", "{}", '{"a": 1}', "[0, 0]"),
    *("[68719476736]", "[1099511627776, 1099511627776]", "[4611686018427387904, 4]"),
    *("[" + "1, " * 99 + "1]", "[0, 68719476736]", "[[[0], [1099511627776], 0]]"),
    *("[" * DEEP + "]" * DEEP, '{"a": ' * DEEP + "1" + "}" * DEEP),
]
NAMES = ("", "/", "a/", "..", "\0", "\ud800", "n" * 300, "w/w")
_HERE = "@here@"


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to save, with what is kept small by a lower limit for packed arrays."""

    limit: int = 1 << 20
    saver: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    save: Mapping[str, Any] = dataclasses.field(default_factory=dict)


LAYOUTS = {
    "packed": Layout(),
    "large": Layout(limit=0),
    "compressed": Layout(limit=0, saver={"compression": "zstd"}),
    "portable": Layout(save={"portable": True}),
}


def tree(layout: str) -> dict[str, Any]:
    """A few small values of every kind that the layout holds."""
    values: dict[str, Any] = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": 31}
    if layout == "packed":
        values |= {"u": np.arange(3).astype("uint4"), "none": jnp.zeros((3, 0), jnp.bfloat16)}
        values |= {"rng": jax.random.key(0), "s": "text", "f": 0.5, "b": b"\1", "o": None}
    if layout != "packed":
        mesh = Mesh(np.array(jax.devices()[:2]), ("x",))
        sharded = jax.device_put(jnp.arange(8), NamedSharding(mesh, PartitionSpec("x")))
        values |= {"rng": jax.random.key(1), "x": sharded, "scalar": np.float32(2)}
    return values


def save(directory: Path, layout: str, step: int = 1) -> Path:
    """Save the tree; return the checkpoint's directory."""
    how = LAYOUTS[layout]
    beside = _saver._PACKS_BESIDE_COMPRESSED
    _saver._PACKS_BESIDE_COMPRESSED = how.limit
    try:
        with packing_up_to(how.limit), Saver(directory, best="min:loss", **how.saver) as saver:
            metadata = {"model": ["x", {"width": 8}]}
            return saver.save(
                tree(layout), step, metrics={"loss": 0.5}, metadata=metadata, **how.save
            )
    finally:
        _saver._PACKS_BESIDE_COMPRESSED = beside


# Files with other members.


def sealed(text: str) -> bytes:
    """An object that ends in the right checksum."""
    return sealed_bytes(text.encode("utf-8", "surrogatepass"))


def sealed_bytes(data: bytes) -> bytes:
    """The same; the last byte, the brace, comes after the checksum."""
    return data[:-1] + b', "crc32c": "%08x"}\n' % crc32c_of(data[:-1])


def members_of(file: Path) -> dict[str, Any]:
    """The members of a file, without its checksum."""
    members: dict[str, Any] = json.loads(file.read_bytes())
    del members["crc32c"]
    return members


def mutations(
    members: Mapping[str, Any], names: tuple[str, ...] = ()
) -> Iterator[tuple[str, bytes]]:
    """Every member replaced, removed and called otherwise; what was done, and the file then.

    Of the ``files``, which are all alike, that is done to the first two alone.
    """
    skipped = list(members.get("files", ()))[2:]
    for path, what, text in replacements(members, names):
        if not (path[0] == "files" and path[1:2] and path[1] in skipped):
            yield f"{'/'.join(map(str, path))} {what}", sealed(text)


def replacements(
    members: Mapping[str, Any], names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], str, str]]:
    """Where something is replaced, by what, and the text of the object then."""
    for path in paths_of(members):
        for text in HOSTILE:
            replaced = json.dumps(changed(members, path, _HERE)).replace(f'"{_HERE}"', text, 1)
            yield path, f"= {text[:60]}", replaced
        removed = changed(members, path, None, pop=True)
        yield path, "removed", json.dumps(removed)
        if isinstance(path[-1], str):
            for name in (*NAMES, *names):
                renamed = copy.deepcopy(removed)
                at(renamed, path[:-1])[name] = at(members, path)
                yield path, f"called {name[:60]!r}", json.dumps(renamed)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each member is, at any depth."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in inside:
        yield (*path, key)
        if isinstance(below, dict | list):
            yield from paths_of(below, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """What is at a path."""
    for key in path:
        value = value[key]
    return value


def changed(members: Any, path: tuple[Any, ...], value: Any, *, pop: bool = False) -> Any:
    """The members with one of them replaced, or removed."""
    copied = copy.deepcopy(members)
    parent = at(copied, path[:-1])
    if pop:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return copied


# Reading.


def look(
    directory: Path, expected: Mapping[str, Any], reads: Mapping[str, Callable[[Path], Any]]
) -> tuple[Mapping[str, int], list[str]]:
    """Read in every way; how often it went well and was refused, and what was wrong otherwise."""
    outcomes = {"read": 0, "refused": 0}
    wrong = []
    for how, read in reads.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", js.CheckpointWarning)
                values = read(directory) or {}
        except (js.CheckpointError, js.TreeMismatchError) as error:
            outcomes["refused"] += 1
            if len(str(error)) > 5000:
                wrong.append(f"{how}: a message of {len(str(error))} characters")
        except Exception as error:
            wrong.append(f"{how}: {type(error).__name__}: {str(error)[:200]}")
        else:
            outcomes["read"] += 1
            wrong += [
                f"{how}: {name} is {value!r}"
                for name, value in values.items()
                if not _may_be(value, expected)
            ]
    return outcomes, wrong


def _may_be(value: Any, expected: Mapping[str, Any]) -> bool:
    """Whether a value has the bytes of one that was saved; a value of Python is in the index."""
    if not hasattr(value, "dtype"):
        return True
    return _bytes(value) in {_bytes(other) for other in expected.values()}


def _bytes(value: Any) -> bytes:
    if hasattr(value, "dtype") and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    return np.asarray(value).tobytes() if hasattr(value, "dtype") else b""


def opened(directory: Path) -> dict[str, Any]:
    """All of step 1, and what is told of it."""
    with Saver(directory).open(1) as saved:
        repr(saved), saved.nbytes, saved.shapes(), saved.metrics, saved.metadata
        assert all(repr(variable.dtype) for variable in saved.values())
        return {name: variable.read() for name, variable in saved.items()}


def opened_newest(directory: Path) -> dict[str, Any]:
    """A part of each array of the newest step."""
    with Saver(directory, verify=False).open() as saved:
        for variable in saved.values():
            if variable.shape:
                variable[:1]
    return {}


def restored(directory: Path) -> dict[str, Any]:
    """One array, from the newest step to a device."""
    target = {"w": jax.ShapeDtypeStruct((2, 3), np.float32)}
    return dict(Saver(directory).restore(target, unexpected="ignore"))


def restored_whole(directory: Path) -> dict[str, Any]:
    """Everything, in its containers; names that no `VarTree` can have are an error of their own."""
    try:
        tree = Saver(directory).restore()
    except js.VariableNameError:
        return {}
    return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def verified(directory: Path) -> None:
    """All checksums."""
    Saver(directory).verify(1)


def listed(directory: Path) -> None:
    """Names and steps, without any array."""
    js.list_variables(directory)
    js.latest_checkpoint(directory)


def steps(directory: Path) -> None:
    """What a directory has, by its files and by its state."""
    saver = Saver(directory, best="min:loss")
    assert saver.all_steps() in ((1,), (1, 2))
    assert saver.best_step() in (None, 1, 2)
    saver.latest_step()


def evicting(directory: Path) -> None:
    """What a save would evict, and the state file that it would write."""
    state = read_state(directory, checkpoints(directory))
    for best in (None, "min:loss"):
        then, going = Retention.of(1, 1e-9, best).apply(state, 0.0)
        assert {record.step for record in (*then.records, *going)} == {1, 2}
    write_state(directory / "again", then)
    (directory / "again").unlink()


def commanded(directory: Path) -> None:
    """What the command says, and that it does not take it for a fault of its own."""
    for arguments in (["ls"], ["show", "w"], ["verify"], ["ls", "--json"]):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = _app.run([arguments[0], str(directory / "1"), *arguments[1:]])
        assert status in (0, 1, 2), err.getvalue()
        assert "a bug" not in err.getvalue(), err.getvalue()


READS = {
    "open": opened,
    "open the newest": opened_newest,
    "restore": restored,
    "restore all": restored_whole,
    "verify": verified,
    "list": listed,
    "steps": steps,
}


# How much memory there is.

# What a checkpoint of some hundred bytes may take: the threads of JAX and TensorStore, once, each
# with a stack and an arena of 64 MB of addresses. Where malloc fails in one, the process ends.
_MEMORY = 4 << 30


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Let this process have only a little more address space: a huge array can't be allocated."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + _MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# Which files are looked at.

# Functions that take a path first, and where Python's own modules find them.
LOOKING = (
    *((module, "open") for module in (builtins, io, os)),
    *((os, name) for name in ("stat", "lstat", "listdir", "scandir")),
)
# Since Python 3.13 the class behind `Path.glob` holds the functions themselves.
_GLOBBER = getattr(glob, "_StringGlobber", None)


@contextlib.contextmanager
def watching_files() -> Iterator[list[str]]:
    """Give the absolute paths of what Python opens, lists, or asks the size of.

    Not by an audit hook, which stays for good: on Python 3.11 it makes threads that start
    together under coverage fail.
    """
    watched: list[str] = []

    def noting(of: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            path = arguments[0] if arguments else options.get("path", options.get("file"))
            if isinstance(path, str | bytes | os.PathLike):
                watched.append(os.path.abspath(os.fsdecode(path)))
            return of(*arguments, **options)

        return call

    with contextlib.ExitStack() as stack:
        for module, name in LOOKING:
            call = noting(getattr(module, name))
            stack.enter_context(mock.patch.object(module, name, call))
        for name in ("lstat", "scandir") if _GLOBBER is not None else ():
            call = staticmethod(noting(getattr(_GLOBBER, name)))
            stack.enter_context(mock.patch.object(_GLOBBER, name, call))
        yield watched
