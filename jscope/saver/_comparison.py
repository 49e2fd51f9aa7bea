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
import functools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax

from .._dtypes import number_kind
from .._errors import near
from .._tree.differences import transposing
from ..formats._own_entry import Entry, dtype_name
from ..formats._python_values import is_python, python_dtype
from ._renaming import UNCHANGED, Renamed

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
class Comparison:
    """The comparison of a target's leaves with what is saved for them.

    Attributes:
        wanted: The target's leaves that are to be filled, by name; of a stack that is saved in
            slices, its slices.
        entries: What is saved, by the target's names.
        policy: Which differences are allowed.
        unexpected: The names that only the checkpoint has, and that were requested.
        names: How the names are spelled in the checkpoint.
        known: All that is saved, by its names in the checkpoint.
        slices: From the names of slices to the variables that they are of.
        call: The call that restores.
    """

    wanted: Mapping[str, Any]
    entries: Mapping[str, Entry]
    policy: Policy
    unexpected: Collection[str] = ()
    names: Renamed = UNCHANGED
    known: Mapping[str, Entry] = dataclasses.field(default_factory=dict)
    slices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    call: Call = Call()

    @functools.cached_property
    def unequal(self) -> frozenset[str]:
        """The leaves that have another shape or dtype than what is saved."""
        return frozenset(
            name
            for name, leaf in self.wanted.items()
            if name in self.entries and signature(leaf) != self.entries[name][:2]
        )

    def text(self) -> str | None:
        """All differences that aren't allowed, the likely cause and the line to write; or None."""
        lines = {
            # They explain what only the checkpoint has, so that it is not listed.
            "rule": self.names.problems,
            "missing": self._missing_lines(),
            "unexpected": [*map(self._unexpected_line, self._extra), *self._lost_lines],
            "shape or dtype": [line for found in self._changed.values() for line in found],
        }
        number = sum(map(len, lines.values()))
        if not number:
            return None
        count = "1 difference" if number == 1 else f"{number} differences"
        text = "\n  ".join(line for kind, group in lines.items() for line in _cut(kind, group))
        return f"{count}:\n  {text}\n" + "\n".join(self._all_advice())

    @functools.cached_property
    def _missing(self) -> list[str]:
        is_error = self.policy.missing == "error"
        return [
            name
            for name in self.wanted
            if name not in self.entries and (is_error or name in self.slices)
        ]

    @functools.cached_property
    def _extra(self) -> Collection[str]:
        is_error = self.policy.unexpected == "error" and not self.names.problems
        return self.unexpected if is_error else ()

    @functools.cached_property
    def _changed(self) -> dict[str, list[str]]:
        """A line for each difference in shape or dtype that is not allowed, by name."""
        found = {name: self._changes(name) for name in self.wanted if name in self.unequal}
        return {name: lines for name, lines in found.items() if lines}

    def _changes(self, name: str) -> list[str]:
        leaf, entry = self.wanted[name], self.entries[name]
        if stands_for_python(leaf, entry):
            return []
        shape, dtype = signature(leaf)
        saved = self.names.saved.get(name, name)
        where = "in the checkpoint" + (f" as {saved!r}" if saved != name else "")
        lines = []
        if shape != entry.shape and not self._may_be_reshaped(name):
            what = ": transposed?" if transposing(entry.shape, shape) else ""
            lines.append(f"shape: {name!r} is {entry.shape} {where}, {shape} in the target{what}")
        if dtype != entry.dtype and not (self.policy.convert and _converts(entry.dtype, dtype)):
            lines.append(f"dtype: {name!r} is {entry.dtype} {where}, {dtype} in the target")
        return lines

    def _may_be_reshaped(self, name: str) -> bool:
        shape, saved = signature(self.wanted[name])[0], self.entries[name].shape
        reshape = self.policy.reshape
        if math.prod(shape) != math.prod(saved):
            return False
        if isinstance(reshape, bool):
            return reshape and not transposing(saved, shape)
        return self.slices.get(name, name) in reshape

    def _missing_lines(self) -> list[str]:
        """A line for each missing name, with close names."""
        hints = max(1, _MOST_COMPARED // max(1, len(self.entries)))
        lines = []
        for i, name in enumerate(self._missing):
            names = self.names
            saved = names.expected(name) if names.expected else names.listed.get(name, name)
            known = self.entries if saved == name else self.known
            hint = f" ({near(saved, known)})" if i < hints else ""
            text = signature_text(*signature(self.wanted[name]))
            renamed = f" as {saved!r}" if saved != name else ""
            of = f", a slice of {self.slices[name]!r}," if name in self.slices else ""
            lines.append(f"missing: {name!r} {text}{of} is not in the checkpoint{renamed}{hint}")
        return lines

    def _unexpected_line(self, name: str) -> str:
        saved = self.names.saved.get(name, name)
        also = f", as {saved!r}" if saved != name else ""
        text = signature_text(*self.entries[name][:2])
        return f"unexpected: {name!r} {text} is in the checkpoint only{also}"

    @functools.cached_property
    def _lost_lines(self) -> list[str]:
        """A line for each saved variable whose name another one takes."""
        if self.policy.unexpected != "error":
            return []
        saved = self.names.saved
        return [
            f"unexpected: {old!r} {signature_text(*self.known[old][:2])} is in the checkpoint too, "
            f"and {saved[name]!r} takes its name"
            for name, old in self.names.taken.items()
            if name in self.wanted and name in saved
        ]

    # The likely causes, and the lines to write.

    def _all_advice(self) -> list[str]:
        argument = self.call.argument
        if self.names.problems:
            advice = [f"{argument}= goes from the checkpoint's names to the target's."]
        else:
            others = [
                name
                for name, lines in self._changed.items()
                if name not in self._transposed or len(lines) > 1
            ]
            advice = []
            if self._missing or self._extra or others:
                advice.append(self._advice(others))
            if self._transposed:
                advice.append(self._advice_on_transposed())
            advice += self.call.on_unexpected([self.names.saved[name] for name in self._extra])
        if self._lost_lines:
            advice.append(
                f"A variable that loses its name to another is given one by {argument}=, or left "
                "out by unexpected='ignore'."
            )
        return advice

    @functools.cached_property
    def _transposed(self) -> dict[str, str]:
        """How to transpose saved values, by name, where that may be why the shapes differ."""
        found = {
            name: transposing(self.entries[name].shape, signature(self.wanted[name])[0])
            for name in self._changed
            if not self._may_be_reshaped(name)
        }
        return {name: python for name, python in found.items() if python is not None}

    def _advice(self, changed: Sequence[str]) -> str:
        """The advice on what isn't transposed."""
        missing, unexpected, call = self._missing, self._extra, self.call
        scopes = [] if call.is_given else self._other_scopes()
        if scopes:
            return _advice_on_scopes(scopes, call, len(unexpected) > len(missing))
        stack = next(filter(None, map(self._stack_in_slices, missing)), None)
        if stack:
            return (
                f"The checkpoint has the slices of {stack!r} one by one, and the target has it as "
                f"a stack: write stacks=[{stack!r}]."
            )
        have_dots = "names" in call.others and all("." in n and "/" not in n for n in unexpected)
        if missing and unexpected and have_dots:
            return (
                "The saved names have dots: names='.' makes their parts components, so that "
                "select= and rename= may have scopes and *."
            )
        if unexpected and not missing and not changed:
            return (
                "If the checkpoint may hold more than the target, as one saved with optimizer "
                "state does, write unexpected='ignore'."
            )
        if missing and not unexpected and not changed and len(missing) < len(self.wanted):
            return (
                "If the target may have variables that the checkpoint lacks, write missing='keep' "
                "for the target's values, or missing='init' and key=... for a declaration's "
                "initial ones."
            )
        if changed and not missing and not unexpected:
            return self._advice_on_changes(changed)
        return (
            f"Nothing is cast, reshaped or renamed unless requested. Names: {call.argument}="
            "{saved: name}, missing='keep' or 'init', unexpected='ignore', or a part by select=; "
            "dtypes: convert=True."
        )

    def _stack_in_slices(self, name: str) -> str | None:
        """The scope above a missing name whose slices are saved, if one's are."""
        parts = name.split("/")
        for at in range(1, len(parts)):
            if "/".join((*parts[:at], "0", *parts[at:])) in self.entries:
                return "/".join(parts[:at])
        return None

    def _other_scopes(self) -> list[tuple[str, str]]:
        """The checkpoint's scopes that would give the target all missing names if renamed.

        Each is a saved scope and the target's; to rename it would give no other leaf another value.
        """
        if not self._missing or len(self._missing) == 1 < len(self.wanted):
            return []
        others = set(self._extra)
        cures: dict[tuple[str, str], bool] = {}
        for name in self._extra:
            for pair in _scopes_that_differ(name, self._missing[0]):
                if pair not in cures:
                    cures[pair] = self._cures(*pair, others)
                if cures[pair]:
                    break
        return [pair for pair, is_cure in cures.items() if is_cure]

    def _cures(self, saved: str, scope: str, unexpected: Collection[str]) -> bool:
        """Whether renaming one scope to another would cure the differences, and make no others."""
        before = {name: _moved(name, scope, saved) for name in self._missing}
        if any(old not in unexpected for old in before.values()):
            return False
        shapes = (
            self.entries[str(old)].shape == signature(self.wanted[name])[0]
            for name, old in before.items()
        )
        if saved and scope and not all(shapes):
            return False
        for name in self.entries:
            new = _moved(name, saved, scope)
            if new is not None and (
                name in self.wanted or (new in self.wanted and new not in before)
            ):
                return False
        return True

    def _advice_on_changes(self, changed: Sequence[str]) -> str:
        """The line to write if the differences are all of shapes or dtypes."""
        pairs = [(*signature(self.wanted[name]), self.entries[name]) for name in changed]
        shapes_agree = all(shape == entry.shape for shape, _, entry in pairs)
        dtypes_agree = all(dtype == entry.dtype for _, dtype, entry in pairs)
        if shapes_agree and all(_converts(entry.dtype, dtype) for _, dtype, entry in pairs):
            return "Nothing is cast unless requested: write convert=True for the target's dtypes."
        has_as_many = all(math.prod(shape) == math.prod(e.shape) for shape, _, e in pairs)
        if "reshape" in self.call.others and dtypes_agree and has_as_many:
            return (
                "Nothing is reshaped unless requested: write Saver(..., reshape=True) for the "
                "target's shapes."
            )
        return (
            "Restore into a target of the shapes and dtypes that were saved and change the result, "
            "or leave these variables out by select=."
        )

    def _advice_on_transposed(self) -> str:
        """The line to write if the differences are transposed values."""
        saved, renamed = self.names.saved, self.names.listed
        entries = [
            f"{saved.get(name, name)!r}: js.Through({renamed.get(name, name)!r}, lambda x: x{how})"
            for name, how in list(self._transposed.items())[:_MOST_WRITTEN]
        ]
        text = (
            "Values of other libraries are often transposed; reshaping would mix up their "
            f"elements. To transpose them write {self.call.with_entries(', '.join(entries))}"
        )
        more = len(self._transposed) - len(entries)
        if more:
            text += f", and so for {more:,} more; a * stands for a part of their names"
        if self.policy.reshape:
            name = next(iter(self._transposed))
            text += f". Or name those that only have another shape: Saver(..., reshape=[{name!r}])"
        return text + "."


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
    return _KIND_OF_PYTHON.get(dtype, number_kind(dtype))


def _converts(saved: str, requested: str) -> bool:
    """Whether a difference of dtypes is one that ``convert`` allows."""
    return 0 <= _kind(saved) <= _kind(requested)


def signature_text(shape: tuple[int, ...], dtype: str) -> str:
    """What a restore compares, as its differences show it: ``float32[3,4]``, or ``python int``."""
    return dtype if is_python(dtype) else f"{dtype}[{','.join(map(str, shape))}]"


def _scopes_that_differ(saved: str, name: str) -> Iterator[tuple[str, str]]:
    """How a missing and an unexpected name differ: the scopes in front of a common end."""
    a, b = saved.split("/"), name.split("/")
    common = 0
    while common < min(len(a), len(b)) and a[-1 - common] == b[-1 - common]:
        common += 1
    for length in range(common, 0, -1):
        yield "/".join(a[:-length]), "/".join(b[:-length])


def _moved(name: str, old: str, new: str) -> str | None:
    """A name below another scope, that would cure differences; None if it is not below the old."""
    if old and not name.startswith(old + "/"):
        return None
    below = name[len(old) + 1 :] if old else name
    return f"{new}/{below}" if new else below


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
