"""Comparing a target with a checkpoint's index: every difference, in one message.

Nothing is read for it, and nothing is repaired: no cast, no broadcast, no other name.

Imports: `_compare`, `_entries`, `_values`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .._compare import differences
from ._entries import Entry
from ._values import dtype_name

_ONLY_ARRAYS = (
    "Only arrays are saved and restored. Write jnp.asarray(...) for what is to be restored, and "
    "leave out the rest by select=."
)


class _Wanted(NamedTuple):
    """A leaf of the target, with its dtype spelled as the index does."""

    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, leaf: Any) -> Any:
        """That, or the leaf itself if it is no array."""
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            return cls(tuple(leaf.shape), dtype_name(leaf.dtype))
        return leaf


def account(
    wanted: Mapping[str, Any], entries: Mapping[str, Entry], *, is_part: bool
) -> str | None:
    """Compose what is different, what is the likely cause and what to write, or None.

    Args:
        wanted: The target's leaves that are to be filled, by name.
        entries: The index of the checkpoint.
        is_part: Whether names that only the checkpoint has are ignored.
    """
    like_entries = {name: _Wanted.of(leaf) for name, leaf in wanted.items()}
    found = differences(like_entries, entries, "in the target", "in the checkpoint")
    lines = found.without_unexpected() if is_part else found.lines
    if not lines:
        return None
    count = "1 difference" if len(lines) == 1 else f"{len(lines)} differences"
    missing = [name for name in wanted if name not in entries]
    unexpected = [] if is_part else [name for name in entries if name not in wanted]
    only_arrays = all(isinstance(leaf, _Wanted) for leaf in like_entries.values())
    advice = _advice(missing, unexpected, wanted) if only_arrays else _ONLY_ARRAYS
    return f"{count}:\n  " + "\n  ".join(lines) + "\n" + advice


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
    if not unexpected and 0 < len(missing) < len(wanted):
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
