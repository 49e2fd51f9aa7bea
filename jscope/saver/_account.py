"""Comparing a target with a checkpoint's index: every difference, in one message.

Nothing is read for it, and nothing is repaired: no cast, no broadcast, no other name.

Imports: `_errors`, `_values`; NumPy.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import near
from ._values import Entry, dtype_name


def differences(
    wanted: Mapping[str, Any], entries: Mapping[str, Entry], *, is_part: bool
) -> str | None:
    """Compose what is different, what is the likely cause and what to write, or None.

    Args:
        wanted: The target's leaves that are to be filled, by name.
        entries: The index of the checkpoint.
        is_part: Whether names that only the checkpoint has are ignored.
    """
    fillable = {name: leaf for name, leaf in wanted.items() if _is_array(leaf)}
    missing = [name for name in wanted if name not in entries]
    unexpected = [] if is_part else sorted(name for name in entries if name not in wanted)
    common = [(name, leaf, entries[name]) for name, leaf in fillable.items() if name in entries]
    lines = [
        *(_missing_line(n, wanted[n], entries, i) for i, n in enumerate(missing)),
        *(
            f"unexpected: {n!r}, {_entry_text(entries[n])}, is not in the target"
            for n in unexpected
        ),
        *(
            f"no array: {name!r} is a Python {type(leaf).__name__} in the target; write "
            "jnp.asarray(...), or leave it out by select="
            for name, leaf in wanted.items()
            if name not in fillable
        ),
        *(
            f"shape: {name!r} is {entry.shape} in the checkpoint, {tuple(leaf.shape)} in the target"
            for name, leaf, entry in common
            if entry.shape != tuple(leaf.shape)
        ),
        *(
            f"dtype: {name!r} is {entry.dtype} in the checkpoint, {dtype_name(leaf.dtype)} in the "
            "target"
            for name, leaf, entry in common
            if entry.dtype != dtype_name(leaf.dtype)
        ),
    ]
    if not lines:
        return None
    count = "1 difference" if len(lines) == 1 else f"{len(lines)} differences"
    return f"{count}:\n  " + "\n  ".join(lines) + "\n" + _advice(missing, unexpected, wanted)


def _missing_line(name: str, leaf: Any, entries: Mapping[str, Entry], position: int) -> str:
    line = f"missing: {name!r}{_leaf_text(leaf)} is not in the checkpoint"
    # Near names cost milliseconds each among thousands; 20 of them tell the story.
    return line if position >= 20 else f"{line} ({near(name, entries)})"


def _advice(missing: Sequence[str], unexpected: Sequence[str], wanted: Mapping[str, Any]) -> str:
    in_checkpoint = _scope_in_front(unexpected, missing)
    if in_checkpoint and len(missing) == len(wanted):
        return (
            f"The names agree but for the scope {in_checkpoint!r}, in front of the checkpoint's. "
            f"Restore into js.rename(target, {{'': {in_checkpoint!r}}}), and rename the result "
            f"with {{{in_checkpoint!r}: ''}}."
        )
    in_target = _scope_in_front(missing, unexpected)
    if in_target and len(missing) == len(wanted):
        return (
            f"The names agree but for the scope {in_target!r}, in front of the target's. Restore "
            f"into js.rename(target, {{{in_target!r}: ''}}), and rename the result with "
            f"{{'': {in_target!r}}}."
        )
    if unexpected and not missing:
        return (
            "If the checkpoint may hold more than the target, as one saved with optimizer state "
            "does, write saver.restore(target, select='**')."
        )
    if missing and len(missing) < len(wanted):
        more = ", and so on." if len(missing) > 3 else "."
        return (
            "If the target may have variables that the checkpoint lacks, give them values and "
            f"leave them out: select=js.drop(target, {list(missing[:3])}){more}"
        )
    return (
        "Nothing is cast, reshaped or renamed on the way. Restore into a target of the names, "
        "shapes and dtypes that were saved and change the result, or restore a part by select=."
    )


def _scope_in_front(longer: Sequence[str], shorter: Sequence[str]) -> str | None:
    """The scope that makes ``longer`` of ``shorter``, or None."""
    if not shorter or len(longer) != len(shorter):
        return None
    cut = len(min(longer, key=len)) - len(min(shorter, key=len)) - 1
    scope = longer[0][: max(cut, 0)]
    return scope if scope and set(longer) == {f"{scope}/{name}" for name in shorter} else None


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _leaf_text(leaf: Any) -> str:
    if not _is_array(leaf):
        return ""
    return f", {dtype_name(leaf.dtype)}{list(leaf.shape)},"


def _entry_text(entry: Entry) -> str:
    return f"{entry.dtype}{list(entry.shape)}"
