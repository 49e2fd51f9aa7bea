"""A model's variables as safetensors files, as Hugging Face's libraries read them.

>>> from jscope.interop import safetensors
>>> transposed = lambda name: js.Through(name, np.transpose, np.transpose)
>>> variables = js.VarTree({"embed/w": jnp.ones((4, 2)), "layers/w": jnp.ones((3, 2, 2))})
>>> safetensors.export(
...     variables,
...     "exported",
...     max_shard_size="5GB",
...     rename={
...         "model/embed_tokens/weight": "embed/w",
...         "lm_head/weight": "embed/w",  # tied: saved under both names
...         "model/layers/*/proj/weight": transposed("layers/*/w"),
...     },
...     names=".",
...     stacks=["layers"],
... )
'exported'
>>> [name for name, _ in js.list_variables("exported")][:3]
['lm_head.weight', 'model.embed_tokens.weight', 'model.layers.0.proj.weight']

`js.Saver` restores such files; see `jscope.formats`.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import CheckpointValueError
from .._names.assignment import AssignmentMap, check_map, problems_of, read_rules
from .._stores.paths import located, readable
from .._stores.remote import RemotePath
from .._stores.upload import new_files
from .._tree.values import value_text
from .._tree.vartree import as_tree
from ..formats._sharded_safetensors import ShardWriter, size_of
from ..formats.safetensors import has_dtype
from ._export import (
    ExportedNames,
    ExportedTree,
    ExportedValue,
    add_by_rules,
    check,
    exported_values,
    tree_of,
    value_of,
    why_not_here,
)

NewName: TypeAlias = Callable[[str], str | tuple[str, ...]]

_HINT = (
    "The map is restore's, from the saved names to the tree's. Export a part by "
    "js.select(tree, ...)."
)


class _Signature(NamedTuple):
    """The shape and dtype of a tensor that is exported to safetensors."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def export(
    tree: Mapping[str, Any],
    directory: str | os.PathLike[str],
    *,
    max_shard_size: int | str = "5GB",
    rename: AssignmentMap | NewName | None = None,
    names: str = "/",
    stacks: Iterable[str] = (),
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> str:
    """Write a tree as ``model.safetensors``, or as shards and ``model.safetensors.index.json``.

    >>> from jscope.interop import safetensors
    >>> safetensors.export({"dense/w": jnp.ones((3, 2), jnp.bfloat16)}, "for_torch", names=".")
    'for_torch'
    >>> js.load_variable("for_torch", "dense.w").dtype
    dtype(bfloat16)

    Arrays over several devices are copied to the host shard by shard, one variable, or slice of a
    stack, at a time. The files appear when all are on disk, the index last.

    Args:
        tree: A tree of arrays, or a flat or nested mapping.
        directory: Where; it is made.
        max_shard_size: The most bytes of tensors in a file: a number, or a string with KB, MB, GB
            or TB, which are powers of ten. A larger tensor has a file of its own.
        rename: An assignment map as for `Saver.restore`, from the saved names to the
            tree's, which is read from right to left: a map that restores exports too. A
            `jscope.Through` needs its inverse. Several rules that are equally specific each give
            a variable a name, under all of which it is saved; a map that restores has one of them.
            Or a function from each name of the tree to the saved one, or to a tuple of several.
            What isn't mentioned keeps its name.
        names: What stands between the components of saved names: ``"/"``, or ``"."``, as in
            PyTorch. In the map it is always a slash.
        stacks: The scopes that are stacks; they are written slice by slice.
        metadata: Strings for the headers and the index, beside ``{"format": "pt"}``, which
            transformers requires.
        overwrite: Whether to replace ``model*.safetensors`` and their index in the directory. Until
            the new files are on disk nothing is removed, and no reader finds a mixture; if both
            have the same number of shards, there is no checkpoint while these are replaced.

    Returns:
        The directory.

    Raises:
        CheckpointValueError: If a value is not an array (PRNG keys, strings, Python's numbers), has
            no value or a dtype that safetensors lacks, two have one name, a rule is about nothing,
            or an argument is invalid. All are listed, and nothing is written.
        CheckpointExistsError: If something is in the way.
        CheckpointError: If the files can't be written.

    Source:
        ``save_torch_state_dict`` of huggingface_hub 2.4. Differences: tensors are in the order of
        their names; old files are kept until the new ones are written; of tied weights all names
        are saved, not one.
    """
    limit = _shard_limit(max_shard_size)
    _check_place(directory, names)
    _check_metadata(metadata)
    variables = as_tree(tree)
    unfit = {name: text for name, leaf in variables.items() if (text := _why_unfit(leaf))}
    fit = tree_of({n: v for n, v in variables.items() if n not in unfit}, stacks)
    saved = _named(fit, rename, names)
    check([*(f"{name!r} {text}" for name, text in unfit.items()), *saved.problems], _hint(unfit))
    values = dict(sorted(saved.written.items()))
    signatures = {source: _signature_of(fit, source, value) for source, value in values.items()}
    with contextlib.ExitStack() as stack:
        place = located(directory)
        if isinstance(place, RemotePath):
            place = stack.enter_context(new_files(place, overwrite=overwrite))
        writer = stack.enter_context(
            ShardWriter(place, signatures, limit, metadata, overwrite=overwrite)
        )
        for source, value in values.items():
            # No name for the array, which would keep it until the next one is on the host.
            dtype = signatures[source].dtype
            writer.write(source, value_of(fit, source, value).astype(dtype, copy=False))
    return readable(directory)


def _shard_limit(size: int | str) -> int:
    """The most bytes of a shard of a safetensors export, from ``max_shard_size``."""
    found = size_of(size) if isinstance(size, str) else size
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise CheckpointValueError(
            f"`max_shard_size` is a number of bytes from 1, or a string with KB, MB, GB or TB, "
            f"got {size!r}. Write max_shard_size='5GB'."
        )
    return found


def _check_place(directory: str | os.PathLike[str], names: object) -> None:
    """Refuse a place or names that a safetensors export can't have."""
    if names not in ("/", "."):
        raise CheckpointValueError(f"`names` is '/' or '.', got {names!r}. Write names='.'.")
    if readable(directory).endswith(".safetensors"):
        raise CheckpointValueError(
            f"An export writes a directory, and {directory!r} is named as a file. Write "
            "safetensors.export(tree, 'exported'), which makes exported/model.safetensors."
        )


def _check_metadata(metadata: object) -> None:
    """Refuse metadata that the header of a safetensors export can't have."""
    if metadata is None:
        return
    if not isinstance(metadata, Mapping) or not all(
        isinstance(text, str) for item in metadata.items() for text in item
    ):
        raise CheckpointValueError(
            f"`metadata` are strings by name, got {metadata!r}. Write metadata={{'step': '1000'}}."
        )
    if "total_size" in metadata:
        raise CheckpointValueError(
            "`metadata` can't have 'total_size', which in an index are the bytes of all tensors. "
            "Give it another name."
        )


def _named(
    tree: ExportedTree, rename: AssignmentMap | NewName | None, separator: str
) -> ExportedNames:
    """The names under which a tree is exported to safetensors, by ``rename``."""
    names = ExportedNames(separator)
    if callable(rename):
        for name, value in exported_values(tree):
            for source in _names_by_function(rename, name):
                names.add(source, name, value)
        return names
    check_map(rename or {})
    rules = read_rules(rename or {}, (), tree.names)
    add_by_rules(names, tree, rules, keep=True)
    names.problems += problems_of(rules, None, tree.names)
    return names


def _names_by_function(rename: NewName, name: str) -> tuple[str, ...]:
    """The names under which a safetensors export has a value, by ``rename`` that is a function."""
    given = rename(name)
    sources = given if isinstance(given, tuple) else (given,)
    if not sources or not all(isinstance(source, str) and source for source in sources):
        raise CheckpointValueError(
            f"`rename` gives {given!r} for {name!r}. Return the saved name, or a tuple of several."
        )
    return sources


def _why_unfit(leaf: Any) -> str | None:
    """Why a value can't be a tensor of a safetensors export, if it can't."""
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        return f"is {value_text(leaf)}, not an array"
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return f"is {value_text(leaf)}, a PRNG key"
    return why_not_here(leaf) or (
        None
        if has_dtype(_native_dtype(leaf.dtype))
        else f"is {value_text(leaf)}, a dtype that safetensors lacks"
    )


def _hint(unfit: Mapping[str, str]) -> str:
    """What to do about all problems of an export to safetensors."""
    advice = []
    if any(text.endswith("PRNG key") for text in unfit.values()):
        advice.append("Of a PRNG key export the data, jax.random.key_data(key).")
    if any(text.endswith("not an array") for text in unfit.values()):
        advice.append(
            "Make arrays of numbers, np.asarray(number, np.float32), and write strings as "
            "metadata={'name': 'text'}."
        )
    if unfit:
        advice.append("Leave values out by js.drop(tree, ...).")
    return " ".join([*advice, _HINT])


def _signature_of(tree: ExportedTree, source: str, value: ExportedValue) -> _Signature:
    """Shape and dtype of a tensor of a safetensors export; only functions need the values."""
    leaf = tree.leaves[value.variable]
    if value.function is None:
        return _Signature(tuple(leaf.shape[len(value.place) :]), _native_dtype(leaf.dtype))
    made = value_of(tree, source, value)
    return _Signature(made.shape, _native_dtype(made.dtype))


def _native_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype of a tensor of a safetensors export, in this machine's byte order."""
    native: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    return native
