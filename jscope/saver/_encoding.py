"""How a value is stored: its entry in the index, and the array whose bytes are written.

Most arrays are stored as they are. The other rules:

* an array **without elements** is in the index only; Orbax refuses it (google/orbax#2587);
* so is a value that is **not an array**, as text: see `formats._python_values`;
* a dtype of `AS_BYTES` is stored as ``uint8``, one element per byte, the same bits;
* a typed **PRNG key** is stored as its key data, and its implementation is in the index.

So every value is stored to the last bit, NaNs and negative zeros too; `_placement` reads them.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import CheckpointValueError, listed
from ..formats import _own_packed
from ..formats._own_entry import AS_BYTES, INDEX, KNOWN, ORBAX, PACKED, RAW, Entry, dtype_name
from ..formats._python_values import python_dtype, python_text
from . import _processes
from ._orbax import Array


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the arrays of a save are encoded: which of them are packed, raw, or Orbax's.

    Attributes:
        packs_up_to: The most bytes of an array that is packed, or None: all are.
        portable: Whether stock Orbax is to read it, so that nothing is packed or disguised.
        compresses: Whether larger arrays are compressed, by Orbax.
    """

    packs_up_to: int | None = _own_packed.LIMIT
    portable: bool = False
    compresses: bool = False

    @property
    def larger(self) -> str:
        """The location of the arrays that are not packed."""
        return ORBAX if self.portable or self.compresses else RAW


def store(
    leaves: Collection[tuple[str, Any]], layout: Layout
) -> tuple[dict[str, Entry], dict[str, Array]]:
    """Encode named leaves: their entries, without checksums and offsets, and the arrays to write.

    Raises:
        CheckpointValueError: If there are leaves that can't be stored; all are listed.
    """
    entries: dict[str, Entry] = {}
    arrays: dict[str, Array] = {}
    problems = []
    are_several = _processes.are_several()
    if layout.portable:
        check_nestable([name for name, _ in leaves])
    for name, leaf in leaves:
        problem = _problem(leaf) or (_portable_problem(leaf) if layout.portable else None)
        if problem:
            problems.append(f"\n  {name!r} {problem}")
            continue
        dtype = python_dtype(leaf)
        if dtype is not None:
            try:
                text = python_text(leaf)
            except CheckpointValueError as error:
                problems.append(f"\n  {name!r} {error}")
                continue
            entries[name] = Entry((), dtype, (), dtype, INDEX, value=text)
            continue
        entries[name], array = _store_array(leaf, layout, are_several)
        if array is not None:
            arrays[name] = array
    if problems:
        unknown = [leaf for _, leaf in leaves if _unknown(leaf)]
        raise CheckpointValueError(
            f"The tree can't be saved; nothing was written. {len(problems)} of its values can't be "
            f"stored:{''.join(problems)}",
            "\n" + left_out(unknown, "tree") if unknown else "",
        )
    return entries, arrays


def check_nestable(names: Collection[str]) -> None:
    """Refuse names that can't be encoded as nested dicts, or that Orbax takes for one another.

    Orbax calls an array by its keys joined with ``.``: ``a/b`` and ``a.b`` would be one.

    Raises:
        CheckpointValueError: If there are any; all are listed.
    """
    scopes = {name[:at] for name in names for at, letter in enumerate(name) if letter == "/"}
    dotted = Counter(name.replace("/", ".") for name in names)
    bad = [
        name
        for name in names
        if name in scopes or not all(name.split("/")) or dotted[name.replace("/", ".")] > 1
    ]
    if bad:
        raise CheckpointValueError(
            f"These names can't be saved for stock Orbax, in nested dicts: {listed(bad)}. One is a "
            "value and a scope, has an empty part, or differs from another only in '.' for '/'. "
            "Rename them, or save without portable=True."
        )


def left_out(leaves: Collection[Any], tree: str) -> str:
    """Advice on leaves that can't be encoded, such as functions: how to leave them out of a save.

    Args:
        leaves: Some of them.
        tree: The caller's name for the pytree that has them.
    """
    functions = [leaf for leaf in leaves if callable(leaf)]
    others = [leaf for leaf in leaves if not callable(leaf)]
    types = sorted({type(leaf).__name__ for leaf in others if not hasattr(leaf, "dtype")})
    dtypes = sorted({str(leaf.dtype) for leaf in others if hasattr(leaf, "dtype")})
    tests = ["callable(x)"] if functions else []
    tests += [f"type(x).__name__ in {types}"] if types else []
    tests += [f"str(getattr(x, 'dtype', '')) in {dtypes}"] if dtypes else []
    test = " or ".join(tests)
    return (
        f"Leave them out of a VarTree: js.drop({tree}, lambda name, x: {test}). In another pytree, "
        f"put None in their place: jax.tree.map(lambda x: None if {test} else x, {tree})."
    )


@functools.cache
def is_key_dtype(dtype: np.dtype[Any] | str) -> bool:
    """Whether values of a dtype are typed PRNG keys, which are encoded as their key data."""
    return bool(jnp.issubdtype(dtype, jax.dtypes.prng_key))


def key_dtype(entry: Entry) -> np.dtype[Any]:
    """The dtype of PRNG keys that are encoded as an entry describes, as JAX has it.

    Raises:
        ValueError: If this program has no such keys.
    """
    dtype, shape = _keys_of(str(entry.key_impl))
    saved = entry.stored_shape[len(entry.shape) :]
    if (dtype_name(dtype), shape) != (entry.dtype, saved):
        raise ValueError(
            f"keys of {entry.key_impl!r} are {dtype} here, {shape} numbers each, and not "
            f"{entry.dtype}, {saved} numbers each"
        )
    return dtype


@functools.cache
def _keys_of(impl: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """How PRNG keys are encoded: their dtype, and the shape of the data that is stored for one."""
    one = jax.random.key(0, impl=impl)
    return one.dtype, jax.random.key_data(one).shape


def _store_array(leaf: Array, layout: Layout, are_several: bool) -> tuple[Entry, Array | None]:
    dtype, key_impl = dtype_name(leaf.dtype), None
    array: Array = leaf
    if is_key_dtype(leaf.dtype):
        key_impl = str(jax.random.key_impl(leaf))
        array = jax.random.key_data(leaf)
    elif dtype in AS_BYTES:
        array = _as_bytes(leaf)
    elif not isinstance(leaf, jax.Array):
        array = np.asarray(leaf, leaf.dtype.newbyteorder("="))
    elif are_several and leaf.is_fully_addressable:
        # An array that lies in one process is written by the first one, as NumPy's are.
        array = np.asarray(leaf)
    # No process has all of an array that lies in several processes.
    packs = not layout.portable and (
        not are_several
        or layout.packs_up_to is None
        or isinstance(array, np.ndarray)
        or array.is_fully_addressable
        or array.is_fully_replicated
    )
    packs_up_to = layout.packs_up_to if packs else 0
    stored = array.shape, dtype_name(array.dtype)
    entry = _entry(packs_up_to, leaf.shape, dtype, *stored, layout.larger, 0, None, (), key_impl)
    return entry, None if entry.location == INDEX else array


# One for all equal ones, as there are many.
@functools.lru_cache
def _entry(packs_up_to: int | None, *members: Any) -> Entry:
    """An entry without its chunks, from the members of one that is not packed."""
    entry = Entry(*members)
    if not entry.stored_size:
        return entry._replace(location=INDEX)
    is_packed = packs_up_to is None or entry.stored_nbytes <= packs_up_to
    return entry._replace(location=PACKED) if is_packed else entry


def _as_bytes(leaf: object) -> Array:
    """Encode an array of such a dtype as NumPy has it: the same bits, ``uint8``, one an element."""

    def to_bytes(array: object) -> np.ndarray[Any, Any]:
        # A copy: order="C" alone would give a view, which the caller may change.
        return np.array(array, order="C").view(np.uint8)

    if not isinstance(leaf, jax.Array) or (leaf.is_fully_addressable and leaf.is_fully_replicated):
        return to_bytes(leaf)
    # By way of the host: XLA knows less of these dtypes than NumPy (a cast from int1 ends the
    # process; jaxlib 0.10.2).
    shards = [jax.device_put(to_bytes(s.data), s.device) for s in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards)


def _portable_problem(leaf: Any) -> str | None:
    """Why a leaf can't be encoded for stock Orbax, or None."""
    if python_dtype(leaf) is not None:
        is_held = leaf is None or isinstance(leaf, bool | float | str)
        if is_held or (isinstance(leaf, int) and -(2**63) <= leaf < 2**63):
            return None
        return f"is a Python {type(leaf).__name__}, which Orbax does not hold"
    if not math.prod(leaf.shape):
        return f"has no elements, shape {tuple(leaf.shape)}, which Orbax does not hold"
    if not is_key_dtype(leaf.dtype) and dtype_name(leaf.dtype) in AS_BYTES:
        return f"has dtype {dtype_name(leaf.dtype)}, which Orbax does not hold: save it cast"
    return None


def _problem(leaf: object) -> str | None:
    """Why a leaf can't be encoded at all, or None."""
    if isinstance(leaf, jax.Array):
        if isinstance(leaf, jax.core.Tracer):
            return f"is a tracer, {leaf.aval.str_short()}: call save outside of jit, grad and vmap"
        if leaf.is_deleted():
            return "is deleted or was donated to a jitted function: save what that returned"
        if is_key_dtype(leaf.dtype) and not isinstance(jax.random.key_impl(leaf), str):
            return f"has keys of an implementation that JAX doesn't know by name, {leaf.dtype}"
        return _unknown_dtype(leaf.dtype)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return "is abstract, a ShapeDtypeStruct: save the values, as declared.init(key) gives them"
    if isinstance(leaf, np.ma.MaskedArray):
        return "is a masked array: save its data and its mask as two variables"
    return _unknown(leaf)


def _unknown(leaf: object) -> str | None:
    """Why a leaf of such a type can't be encoded, or None."""
    if python_dtype(leaf) is not None or isinstance(leaf, jax.ShapeDtypeStruct):
        return None
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return f"is of type {type(leaf).__name__}, which can't be saved"
    return _unknown_dtype(leaf.dtype)


@functools.cache
def _unknown_dtype(dtype: np.dtype[Any]) -> str | None:
    """Why arrays of a dtype can't be encoded, or None."""
    if not is_key_dtype(dtype) and dtype_name(dtype) not in KNOWN:
        return f"has dtype {dtype}, which JAX doesn't have"
    return None
