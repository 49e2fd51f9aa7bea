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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._dtypes import number_kind
from .._errors import near
from .._tree.differences import transposing
from ..formats._own_entry import Entry, dtype_name
from ..formats._python_values import is_python, python_dtype

# Comparing two names takes 0.4 ms: for 2,000 names that are missing from 2,000, half an hour.
_MOST_COMPARED = 5000
# Lines of a kind of difference.
_MOST_SHOWN = 30
# Entries of a map that an error writes out.
_MOST_WRITTEN = 5


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which differences between a target and a checkpoint are allowed.

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


@dataclasses.dataclass(frozen=True)
class Call:
    """The call whose differences are reported, for the lines to write instead.

    Attributes:
        argument: Its argument for names.
        is_given: Whether that is given.
        default: The entries that it has if it is not, as text.
        others: Which arguments the call has, of ``names`` and ``reshape``.
        on_unexpected: Further advice on the saved names that only the checkpoint has.
    """

    argument: str = "rename"
    is_given: bool = False
    default: str = ""
    others: Collection[str] = ("names", "reshape")
    on_unexpected: Callable[[Sequence[str]], Iterable[str]] = lambda names: ()

    def with_entries(self, entries: str) -> str:
        """The argument, with further entries."""
        if self.is_given:
            return f"{self.argument}={{{entries}}}, beside the entries that {self.argument}= has"
        return f"{self.argument}={{{self.default}{entries}}}"


@dataclasses.dataclass(frozen=True)
class Spelling:
    """How the names that a restore compares are spelled elsewhere, for messages on differences.

    Attributes:
        saved: From the names to those in the checkpoint.
        saved_as: From the target's names to those of ``var_list``, where it is a dict.
        expected: What a name of the target should be in the checkpoint; None if it is the same.
        known: All names in the checkpoint.
        slices: From the names of slices to the variables that they are of.
        call: The call that restores.
    """

    saved: Mapping[str, str] = dataclasses.field(default_factory=dict)
    saved_as: Mapping[str, str] = dataclasses.field(default_factory=dict)
    expected: Callable[[str], str] | None = None
    known: Collection[str] = ()
    slices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    call: Call = Call()

    def also(self, name: str) -> str:
        """The checkpoint's spelling, where it is another one."""
        saved = self.saved.get(name, name)
        return "" if saved == name else f" as {saved!r}"


def account(
    wanted: Mapping[str, Any],
    entries: Mapping[str, Entry],
    unexpected: Collection[str],
    policy: Policy,
    spelling: Spelling = Spelling(),
    problems: Sequence[str] = (),
    lost: Sequence[str] = (),
) -> str | None:
    """Compose all differences of a restore, the likely cause and the line to write; or None.

    Args:
        wanted: The target's leaves that are to be filled, by name; of a stack that is saved in
            slices, its slices.
        entries: What is saved, by the target's names.
        unexpected: The names that only the checkpoint has, and that were requested.
        policy: Which differences are allowed.
        spelling: How the names are spelled elsewhere.
        problems: A line for each entry of the map that can't be followed. They explain what only
            the checkpoint has, so that it is not listed.
        lost: A line for each saved variable whose name another one takes.
    """
    missing = [
        name
        for name in wanted
        if name not in entries and (policy.missing == "error" or name in spelling.slices)
    ]
    extra = list(unexpected) if policy.unexpected == "error" and not problems else []
    compared = _Compared(entries, policy, spelling)
    changed = {
        name: texts
        for name, leaf in wanted.items()
        if name in entries and (texts := compared.changes(name, leaf))
    }
    lines = {
        "rule": problems,
        "missing": _missing_lines(missing, wanted, entries, spelling),
        "unexpected": [
            f"unexpected: {n!r} {_entry_text(entries[n])} is in the checkpoint only"
            f"{',' if spelling.also(n) else ''}{spelling.also(n)}"
            for n in extra
        ]
        + list(lost),
        "shape or dtype": [line for texts in changed.values() for line in texts],
    }
    number = sum(map(len, lines.values()))
    if not number:
        return None
    count = "1 difference" if number == 1 else f"{number} differences"
    text = "\n  ".join(line for kind, group in lines.items() for line in _cut(kind, group))
    if problems:
        given = spelling.call.argument
        advice = [f"{given}= goes from the checkpoint's names to the target's."]
    else:
        advice = _all_advice(missing, extra, {n: wanted[n] for n in changed}, wanted, compared)
    if lost:
        advice.append(
            f"A variable that loses its name to another is given one by {spelling.call.argument}=, "
            "or left out by unexpected='ignore'."
        )
    return f"{count}:\n  {text}\n" + "\n".join(advice)


def _cut(kind: str, lines: Sequence[str]) -> Sequence[str]:
    """The lines to show on one kind of difference from a checkpoint, and how many more."""
    if len(lines) <= _MOST_SHOWN:
        return lines
    shown = lines[: _MOST_SHOWN - 1]
    return [*shown, f"{kind}: {len(lines) - len(shown):,} more"]


def signature(leaf: object) -> tuple[tuple[int, ...], str]:
    """The shape and dtype by which a target's leaf is compared with a checkpoint's entry."""
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return tuple(leaf.shape), dtype_name(leaf.dtype)
    return (), python_dtype(leaf) or f"python {type(leaf).__name__}"


def stands_for_python(leaf: object, entry: Entry) -> bool:
    """Whether an abstract leaf stands for a Python number, when it is compared with a saved one."""
    if not isinstance(leaf, jax.ShapeDtypeStruct) or leaf.shape != ():
        return False
    # JAX's bools are never weak.
    is_python = leaf.weak_type or leaf.dtype == bool
    kind = _KIND_OF_PYTHON.get(entry.dtype)
    return is_python and kind == _kind(dtype_name(leaf.dtype))


_KIND_OF_PYTHON = {"python bool": 0, "python int": 1, "python float": 2, "python complex": 3}


def _kind(dtype: str) -> int:
    """The `number_kind` by which dtypes, and types of Python, are compared."""
    if is_python(dtype):
        return _KIND_OF_PYTHON.get(dtype, -1)
    return -1 if dtype.startswith("key<") else number_kind(np.dtype(dtype))


def _converts(saved: str, requested: str) -> bool:
    """Whether a difference of dtypes is one that ``convert`` allows."""
    return 0 <= _kind(saved) <= _kind(requested)


@dataclasses.dataclass(frozen=True)
class _Compared:
    """The saved entries that are compared with the target's leaves, and the policy."""

    entries: Mapping[str, Entry]
    policy: Policy
    spelling: Spelling

    def changes(self, name: str, leaf: object) -> list[str]:
        """The differences between a leaf and the saved value that are not allowed."""
        entry, policy = self.entries[name], self.policy
        if stands_for_python(leaf, entry):
            return []
        shape, dtype = signature(leaf)
        where = f"in the checkpoint{self.spelling.also(name)}"
        lines = []
        if shape != entry.shape and not self._may_be_reshaped(name, shape):
            what = ": transposed?" if transposing(entry.shape, shape) else ""
            lines.append(f"shape: {name!r} is {entry.shape} {where}, {shape} in the target{what}")
        if dtype != entry.dtype and not (policy.convert and _converts(entry.dtype, dtype)):
            lines.append(f"dtype: {name!r} is {entry.dtype} {where}, {dtype} in the target")
        return lines

    def transposing(self, name: str, leaf: object) -> str | None:
        """How to transpose the saved value to the leaf's shape, if that may be the cause."""
        shape, _ = signature(leaf)
        if self._may_be_reshaped(name, shape):
            return None
        return transposing(self.entries[name].shape, shape)

    def _may_be_reshaped(self, name: str, shape: tuple[int, ...]) -> bool:
        saved, reshape = self.entries[name].shape, self.policy.reshape
        if math.prod(shape) != math.prod(saved):
            return False
        if isinstance(reshape, bool):
            return reshape and not transposing(saved, shape)
        return self.spelling.slices.get(name, name) in reshape


def _entry_text(entry: Entry) -> str:
    """An entry that is compared, as a difference shows it."""
    return signature_text(entry.shape, entry.dtype)


def signature_text(shape: tuple[int, ...], dtype: str) -> str:
    """What a restore compares, as its differences show it: ``float32[3,4]``, or ``python int``."""
    return dtype if is_python(dtype) else f"{dtype}[{','.join(map(str, shape))}]"


def _missing_lines(
    missing: Sequence[str],
    wanted: Mapping[str, Any],
    entries: Mapping[str, Entry],
    spelling: Spelling,
) -> list[str]:
    """A line for each difference that is a missing name, with close names."""
    hints = max(1, _MOST_COMPARED // max(1, len(entries)))
    lines = []
    for i, name in enumerate(missing):
        saved = spelling.expected(name) if spelling.expected else spelling.saved_as.get(name, name)
        known = entries if saved == name else spelling.known
        hint = f" ({near(saved, known)})" if i < hints else ""
        text = signature_text(*signature(wanted[name]))
        renamed = f" as {saved!r}" if saved != name else ""
        of = f", a slice of {spelling.slices[name]!r}," if name in spelling.slices else ""
        lines.append(f"missing: {name!r} {text}{of} is not in the checkpoint{renamed}{hint}")
    return lines


def _all_advice(
    missing: Sequence[str],
    unexpected: Sequence[str],
    changed: Mapping[str, Any],
    wanted: Mapping[str, Any],
    compared: _Compared,
) -> list[str]:
    """The likely causes of the differences, and the lines to write."""
    transposed = {
        name: python
        for name, leaf in changed.items()
        if (python := compared.transposing(name, leaf)) is not None
    }
    others = {
        name: leaf
        for name, leaf in changed.items()
        if name not in transposed or len(compared.changes(name, leaf)) > 1
    }
    advice = []
    if missing or unexpected or others:
        advice.append(_advice(missing, unexpected, others, wanted, compared))
    if transposed:
        advice.append(_advice_on_transposed(transposed, compared))
    spelling = compared.spelling
    return [*advice, *spelling.call.on_unexpected([spelling.saved[name] for name in unexpected])]


def _advice(
    missing: Sequence[str],
    unexpected: Sequence[str],
    changed: Mapping[str, Any],
    wanted: Mapping[str, Any],
    compared: _Compared,
) -> str:
    """The likely cause of the differences that aren't transposed values, and the line to write."""
    entries, call = compared.entries, compared.spelling.call
    scopes = [] if call.is_given else _other_scopes(missing, unexpected, wanted, entries)
    if scopes:
        return _advice_on_scopes(scopes, call, len(unexpected) > len(missing))
    stack = next(filter(None, (_stack_in_slices(name, entries) for name in missing)), None)
    if stack:
        return (
            f"The checkpoint has the slices of {stack!r} one by one, and the target has it as a "
            f"stack: write stacks=[{stack!r}]."
        )
    have_dots = "names" in call.others and all("." in n and "/" not in n for n in unexpected)
    if missing and unexpected and have_dots:
        return (
            "The saved names have dots: names='.' makes their parts components, so that select= "
            "and rename= may have scopes and *."
        )
    if unexpected and not missing and not changed:
        return (
            "If the checkpoint may hold more than the target, as one saved with optimizer state "
            "does, write unexpected='ignore'."
        )
    if missing and not unexpected and not changed and len(missing) < len(wanted):
        return (
            "If the target may have variables that the checkpoint lacks, write missing='keep' for "
            "the target's values, or missing='init' and key=... for a declaration's initial ones."
        )
    if changed and not missing and not unexpected:
        return _advice_on_changes(changed, compared)
    return (
        f"Nothing is cast, reshaped or renamed unless requested. Names: {call.argument}="
        "{saved: name}, missing='keep' or 'init', unexpected='ignore', or a part by select=; "
        "dtypes: convert=True."
    )


def _stack_in_slices(name: str, entries: Mapping[str, Entry]) -> str | None:
    """The scope above a missing name whose slices are saved, if one's are."""
    parts = name.split("/")
    for at in range(1, len(parts)):
        if "/".join((*parts[:at], "0", *parts[at:])) in entries:
            return "/".join(parts[:at])
    return None


def _other_scopes(
    missing: Sequence[str],
    unexpected: Sequence[str],
    wanted: Mapping[str, Any],
    entries: Mapping[str, Entry],
) -> list[tuple[str, str]]:
    """The checkpoint's scopes that would give the target all missing names if they were renamed.

    Each is a saved scope and the target's; to rename it would give no other leaf another value.
    """
    if not missing or len(missing) == 1 < len(wanted):
        return []
    first, others = missing[0], set(unexpected)
    cures: dict[tuple[str, str], bool] = {}
    for name in unexpected:
        for pair in _scopes_that_differ(name, first):
            if pair not in cures:
                cures[pair] = _cures(*pair, missing, others, wanted, entries)
            if cures[pair]:
                break
    return [pair for pair, is_cure in cures.items() if is_cure]


def _scopes_that_differ(saved: str, name: str) -> Iterator[tuple[str, str]]:
    """How a missing and an unexpected name differ: the scopes in front of a common end."""
    a, b = saved.split("/"), name.split("/")
    common = 0
    while common < min(len(a), len(b)) and a[-1 - common] == b[-1 - common]:
        common += 1
    for length in range(common, 0, -1):
        yield "/".join(a[:-length]), "/".join(b[:-length])


def _cures(
    saved: str,
    scope: str,
    missing: Sequence[str],
    unexpected: Collection[str],
    wanted: Mapping[str, Any],
    entries: Mapping[str, Entry],
) -> bool:
    """Whether renaming one scope to another would cure the differences, and make no others."""

    def moved(name: str, old: str, new: str) -> str | None:
        if old and not name.startswith(old + "/"):
            return None
        below = name[len(old) + 1 :] if old else name
        return f"{new}/{below}" if new else below

    before = {name: moved(name, scope, saved) for name in missing}
    if any(old not in unexpected for old in before.values()):
        return False
    if (
        saved
        and scope
        and any(
            entries[str(old)].shape != signature(wanted[name])[0] for name, old in before.items()
        )
    ):
        return False
    for name in entries:
        new = moved(name, saved, scope)
        if new is not None and (name in wanted or (new in wanted and new not in before)):
            return False
    return True


def _advice_on_scopes(scopes: Sequence[tuple[str, str]], call: Call, has_more: bool) -> str:
    """The line to write if the differences are all of scopes."""
    saved, scope = scopes[0]
    more = " and unexpected='ignore'" if has_more else ""
    written = f"write {call.with_entries(f'{saved!r}: {scope!r}')}{more}."
    if len(scopes) > 1:
        several = ", ".join(repr(saved) for saved, _ in scopes[:5])
        return (
            f"Below each of {several} the checkpoint has all names that are missing. To restore "
            f"from the first {written}"
        )
    if "" in (saved, scope):
        return f"The names agree but for a scope in front: {written}"
    return f"The names agree but for the scope {saved!r} in place of {scope!r}: {written}"


def _advice_on_changes(changed: Mapping[str, Any], compared: _Compared) -> str:
    """The line to write if the differences are all of shapes or dtypes."""
    pairs = [(signature(leaf), compared.entries[name]) for name, leaf in changed.items()]
    can_reshape = "reshape" in compared.spelling.call.others
    shapes_agree = all(shape == entry.shape for (shape, _), entry in pairs)
    dtypes_agree = all(dtype == entry.dtype for (_, dtype), entry in pairs)
    if shapes_agree and all(_converts(entry.dtype, dtype) for (_, dtype), entry in pairs):
        return "Nothing is cast unless requested: write convert=True for the target's dtypes."
    has_as_many = all(math.prod(s) == math.prod(e.shape) for (s, _), e in pairs)
    if can_reshape and dtypes_agree and has_as_many:
        return (
            "Nothing is reshaped unless requested: write Saver(..., reshape=True) for the target's "
            "shapes."
        )
    return (
        "Restore into a target of the shapes and dtypes that were saved and change the result, or "
        "leave these variables out by select=."
    )


def _advice_on_transposed(transposed: Mapping[str, str], compared: _Compared) -> str:
    """The line to write if the differences are transposed values."""
    spelling = compared.spelling
    entries = []
    for name, python in list(transposed.items())[:_MOST_WRITTEN]:
        saved, new = spelling.saved.get(name, name), spelling.saved_as.get(name, name)
        entries.append(f"{saved!r}: js.Through({new!r}, lambda x: x{python})")
    more = len(transposed) - len(entries)
    text = (
        "Values of other libraries are often transposed; reshaping would mix up their elements. "
        f"To transpose them write {spelling.call.with_entries(', '.join(entries))}"
    )
    if more:
        text += f", and so for {more:,} more; a * stands for a part of their names"
    if compared.policy.reshape:
        name = next(iter(transposed))
        text += f". Or name those that only have another shape: Saver(..., reshape=[{name!r}])"
    return text + "."
