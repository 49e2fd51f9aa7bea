"""Comparing a target with a checkpoint: every difference, in one message, before reading arrays.

A leaf of the target takes the saved value of its name if that fits:

| saved | the leaf | fits |
|---|---|---|
| an array, or PRNG keys | has a shape and a dtype | if both are equal |
| a Python number, a string, None | is one | if the types are equal |
| a Python number | is abstract, and what `jax.eval_shape` makes of one | if it is of that type |

With ``convert`` the dtype may differ, or the Python type, in the direction of bool, integer,
floating, complex; integers go to other integers if each value is exact; keys are never
converted. With ``reshape`` the shape may differ, if the number of elements does not; but a shape
that is the other one with its axes in another order is an error unless the variable is named: the
value was most probably transposed, and reshaping would mix up its elements.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._dtypes import number_kind
from .._errors import near
from .._tree.differences import transposing
from ..formats._entry import Entry, dtype_name
from ..formats._python import is_python, python_dtype

# Comparing two names takes 0.4 ms: for 2,000 names that are missing from 2,000, half an hour.
_MOST_COMPARED = 5000


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which differences are allowed.

    Attributes:
        missing: What is done about names that only the target has: ``"error"``, ``"keep"`` or
            ``"init"``.
        unexpected: About names that only the checkpoint has: ``"error"`` or ``"ignore"``.
        convert: Whether dtypes may differ.
        reshape: Whether shapes may differ; or the leaves whose shapes may, also if they look
            transposed.
    """

    missing: str = "error"
    unexpected: str = "error"
    convert: bool = False
    reshape: bool | Collection[str] = False


def account(
    wanted: Mapping[str, Any],
    entries: Mapping[str, Entry],
    unexpected: Collection[str],
    policy: Policy,
    saved_as: Mapping[str, str] = types.MappingProxyType({}),
    opened: Callable[[str], str] = lambda name: f"saver.open()[{name!r}]",
) -> str | None:
    """Compose the differences, the likely cause and the line to write; or None.

    Args:
        wanted: The target's leaves that are to be filled, by name.
        entries: What is saved, by the target's names.
        unexpected: The names that only the checkpoint has, and that were requested.
        policy: Which differences are allowed.
        saved_as: The saved names that were requested, where they are other than the target's.
        opened: The Python that opens the saved value of a name.
    """
    missing = [name for name in wanted if name not in entries and policy.missing == "error"]
    extra = list(unexpected) if policy.unexpected == "error" else []
    changed = {
        name: lines
        for name, leaf in wanted.items()
        if name in entries and (lines := _changes(name, leaf, entries[name], policy))
    }
    lines = [
        *_missing_lines(missing, wanted, entries, saved_as),
        *(f"unexpected: {n!r} {_of(entries[n])} is in the checkpoint only" for n in extra),
        *(line for lines in changed.values() for line in lines),
    ]
    if not lines:
        return None
    count = "1 difference" if len(lines) == 1 else f"{len(lines)} differences"
    transposed = {
        name: python
        for name in changed
        if (python := _transposing(name, wanted[name], entries[name], policy))
    }
    others = {n: wanted[n] for n, texts in changed.items() if n not in transposed or len(texts) > 1}
    advice = []
    if missing or extra or others:
        advice.append(_advice(missing, extra, others, entries, len(wanted)))
    if transposed:
        advice.append(_advice_on_transposed(transposed, policy, opened))
    return f"{count}:\n  " + "\n  ".join(lines) + "\n" + "\n".join(advice)


def signature(leaf: object) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of a leaf as an entry has them."""
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return tuple(leaf.shape), dtype_name(leaf.dtype)
    return (), python_dtype(leaf) or f"python {type(leaf).__name__}"


def stands_for_python(leaf: object, entry: Entry) -> bool:
    """Whether a leaf is the abstract value of a Python number of the type that is saved."""
    if not isinstance(leaf, jax.ShapeDtypeStruct) or leaf.shape != ():
        return False
    # JAX's bools are never weak.
    is_python = leaf.weak_type or leaf.dtype == bool
    kind = _KIND_OF_PYTHON.get(entry.dtype)
    return is_python and kind == _kind(dtype_name(leaf.dtype))


_KIND_OF_PYTHON = {"python bool": 0, "python int": 1, "python float": 2, "python complex": 3}


def _kind(dtype: str) -> int:
    """`number_kind` of a dtype or a type of Python."""
    if is_python(dtype):
        return _KIND_OF_PYTHON.get(dtype, -1)
    return -1 if dtype.startswith("key<") else number_kind(np.dtype(dtype))


def _converts(saved: str, requested: str) -> bool:
    return 0 <= _kind(saved) <= _kind(requested)


def _changes(name: str, leaf: object, entry: Entry, policy: Policy) -> list[str]:
    """The differences between a leaf and the saved value of its name that are not allowed."""
    if stands_for_python(leaf, entry):
        return []
    shape, dtype = signature(leaf)
    lines = []
    if shape != entry.shape and not _may_be_reshaped(name, shape, entry.shape, policy):
        what = ": transposed?" if transposing(entry.shape, shape) else ""
        shapes = f"{entry.shape} in the checkpoint, {shape} in the target"
        lines.append(f"shape: {name!r} is {shapes}{what}")
    if dtype != entry.dtype and not (policy.convert and _converts(entry.dtype, dtype)):
        lines.append(f"dtype: {name!r} is {entry.dtype} in the checkpoint, {dtype} in the target")
    return lines


def _may_be_reshaped(
    name: str, shape: tuple[int, ...], saved: tuple[int, ...], policy: Policy
) -> bool:
    if math.prod(shape) != math.prod(saved):
        return False
    if isinstance(policy.reshape, bool):
        return policy.reshape and not transposing(saved, shape)
    return name in policy.reshape


def _transposing(name: str, leaf: object, entry: Entry, policy: Policy) -> str | None:
    """How to transpose the saved value to the leaf's shape, if that may be the cause."""
    shape, _ = signature(leaf)
    may_be_reshaped = _may_be_reshaped(name, shape, entry.shape, policy)
    return None if may_be_reshaped else transposing(entry.shape, shape)


def _of(entry: Entry) -> str:
    return signature_text(entry.shape, entry.dtype)


def signature_text(shape: tuple[int, ...], dtype: str) -> str:
    """``float32[3,4]``, or ``python int``."""
    return dtype if is_python(dtype) else f"{dtype}[{','.join(map(str, shape))}]"


def _missing_lines(
    missing: Sequence[str],
    wanted: Mapping[str, Any],
    entries: Mapping[str, Entry],
    saved_as: Mapping[str, str],
) -> Iterator[str]:
    hints = max(1, _MOST_COMPARED // max(1, len(entries)))
    for i, name in enumerate(missing):
        saved = saved_as.get(name, name)
        hint = f" ({near(saved, entries)})" if i < hints else ""
        text = signature_text(*signature(wanted[name]))
        renamed = f" as {saved!r}" if saved != name else ""
        yield f"missing: {name!r} {text} is not in the checkpoint{renamed}{hint}"


def _advice(
    missing: Sequence[str],
    unexpected: Sequence[str],
    changed: Mapping[str, Any],
    entries: Mapping[str, Entry],
    count: int,
) -> str:
    """The likely cause, and the line to write."""
    if missing and len(missing) == count:
        for rename in (
            _scope_in_front(unexpected, missing, lambda scope: {scope: ""}),
            _scope_in_front(missing, unexpected, lambda scope: {"": scope}),
        ):
            if rename:
                return f"The names agree but for a scope in front: write rename={rename}."
    if unexpected and not missing and not changed:
        return (
            "If the checkpoint may hold more than the target, as one saved with optimizer state "
            "does, write unexpected='ignore'."
        )
    if missing and not unexpected and not changed and len(missing) < count:
        return (
            "If the target may have variables that the checkpoint lacks, write missing='keep' for "
            "the target's values, or missing='init' and key=... for a declaration's initial ones."
        )
    if changed and not missing and not unexpected:
        return _advice_on_changes(changed, entries)
    return (
        "Nothing is cast, reshaped or renamed unless requested. Names: rename={saved: name}, "
        "missing='keep' or 'init', unexpected='ignore', or a part by select=; dtypes: convert=True."
    )


def _advice_on_changes(changed: Mapping[str, Any], entries: Mapping[str, Entry]) -> str:
    pairs = [(signature(leaf), entries[name]) for name, leaf in changed.items()]
    shapes_agree = all(shape == entry.shape for (shape, _), entry in pairs)
    dtypes_agree = all(dtype == entry.dtype for (_, dtype), entry in pairs)
    if shapes_agree and all(_converts(entry.dtype, dtype) for (_, dtype), entry in pairs):
        return "Nothing is cast unless requested: write convert=True for the target's dtypes."
    if dtypes_agree and all(math.prod(s) == math.prod(e.shape) for (s, _), e in pairs):
        return (
            "Nothing is reshaped unless requested: write Saver(..., reshape=True) for the target's "
            "shapes."
        )
    return (
        "Restore into a target of the shapes and dtypes that were saved and change the result, or "
        "leave these variables out by select=."
    )


def _advice_on_transposed(
    transposed: Mapping[str, str], policy: Policy, opened: Callable[[str], str]
) -> str:
    name, python = next(iter(transposed.items()))
    text = (
        "Values of other libraries are often transposed; reshaping would mix up their elements. "
        f"Read them: {opened(name)}.read(){python}, and restore the others by select=."
    )
    if policy.reshape:
        text += f" Or name those that only have another shape: Saver(..., reshape=[{name!r}])."
    return text


def _scope_in_front(
    longer: Sequence[str], shorter: Sequence[str], rename: Callable[[str], dict[str, str]]
) -> dict[str, str] | None:
    """What to write if a scope makes ``longer`` of ``shorter``, or None."""
    if not shorter or len(longer) != len(shorter):
        return None
    cut = len(min(longer, key=len)) - len(min(shorter, key=len)) - 1
    scope = longer[0][: max(cut, 0)]
    return rename(scope) if scope and set(longer) == {f"{scope}/{n}" for n in shorter} else None
