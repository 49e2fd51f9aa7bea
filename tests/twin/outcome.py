"""What a program did, and whether two libraries did the same."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# The sentences by which both libraries' errors are recognized; groups must agree too.
#
# The first word says when such an error can occur in a bound scope: "always"; or "creating", which
# a bound scope never does: there the variable is missing, or was made after all later on.
SENTENCES = [
    ("always", r"Variable (\S+) already exists, disallowed\. Did you mean to set reuse=True or"),
    ("creating", r"Variable (\S+) does not exist, or was not created with"),
    ("always", r"share variable (\S+), but specified shape (\(.*?\)) and found shape (\(.*?\))\."),
    ("always", r"share variable (\S+), but specified dtype (\w+) and found dtype (\w+)"),
    ("always", r"reuse=[\w.]+ cannot be used without a name_or_scope"),
    ("always", r"If default_name is None then name_or_scope is required"),
    ("always", r"The reuse parameter must be True or False or None"),
    ("always", r"name_or_scope must be a string or"),
    ("creating", r"'(?:[^']*/)?([^'/]*)' is not a "),
    ("always", r"a custom_getter which is not callable"),
    ("always", r"name cannot be None"),
    ("always", r"Partitioner must be callable, but received: (\S+)"),
    ("creating", r"If initializer is a constant, do not specify shape"),
    ("creating", r"Initializer type '(\w+)' and explicit dtype '(\w+)' don't match"),
    ("creating", r"so its `shape` argument must be specified|(?:must|should) be fully defined"),
    ("creating", r"(Dimension \S+ must be >= 0)"),
    ("creating", r"An initializer for variable (\S+) of (\w+) is required"),
    ("creating", r"collections argument (?:to Variable \w+ )?must be a list, tuple, or set"),
    ("creating", r"`constraint`(?: argument)? must be (?:None or )?a callable"),
    ("creating", r"(?i)trainable variable created when calling a template after the first time"),
]


@dataclass(frozen=True)
class Failure:
    """An error that a program, or a part of it, ended with."""

    error: Exception

    @property
    def text(self) -> str:
        """The message, with dtypes written in one way."""
        text = re.sub(r"<dtype: '(\w+)'>", r"\1", str(self.error))
        return re.sub(r"\b(\w+?)_ref\b", r"\1", text)

    @property
    def matched(self) -> tuple[str, tuple[Any, ...]]:
        """The sentence that it has, and the facts in it."""
        for _, sentence in SENTENCES:
            found = re.search(sentence, self.text)
            if found:
                return sentence, found.groups()
        return self.text, ()

    @property
    def only_creating(self) -> bool:
        """Whether a scope that creates nothing has no occasion for it."""
        return any(when == "creating" and s == self.matched[0] for when, s in SENTENCES)


@dataclass
class Outcome:
    """What a program did.

    Attributes:
        created: Name, shape, dtype and trainability of each variable, in order of creation.
        returned: Shape and dtype of what each request returned, in order.
        values: The same, as values, if variable number ``k`` is full of ``k + 1``.
        initial: Initial values, those that are the same each time.
        requested: How often each variable was requested; None if not only variables were returned.
        notes: What the program noted.
        failures: How each attempt of the program ended; the last one is the program's own.
        collections: Names by collection and scope.
        losses: The regularizers' values in order, by scope and variable.
        constrained: The values that constraints give.
    """

    created: list[tuple[str, tuple[int, ...], str, bool]] = field(default_factory=list)
    returned: list[tuple[tuple[int, ...], str]] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    initial: dict[str, Any] = field(default_factory=dict)
    requested: dict[str, int] | None = field(default_factory=dict)
    notes: list[Any] = field(default_factory=list)
    failures: list[Failure | None] = field(default_factory=list)
    collections: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    losses: dict[tuple[str, str], Any] = field(default_factory=dict)
    constrained: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of the variables, in order of creation."""
        return [name for name, *_ in self.created]


def scopes_of(names: Iterable[str]) -> list[str]:
    """The scopes of variables, the root among them."""
    return sorted({"", *(name[:i] for name in names for i, c in enumerate(name) if c == "/")})


def full(number: int, shape: tuple[int, ...], dtype: str) -> Any:
    """The value by which variable ``number`` is known."""
    return np.full(shape, number % 2 if dtype == "bool" else number + 1).astype(dtype)


def compare_declared(theirs: Outcome, ours: Outcome) -> None:
    """Raise AssertionError where jscope, declaring, did something else than TensorFlow."""
    _same("failures", _matched(ours), _matched(theirs))
    for our, their in zip(ours.failures, theirs.failures, strict=True):
        if our is not None and their is not None:
            assert their.matched[0] in dict.fromkeys(s for _, s in SENTENCES), (
                f"no sentence matches TensorFlow's: {their.text}"
            )
            assert isinstance(our.error, _builtin(their.error)), (our.error, their.error)
    for what in ("created", "returned", "notes", "collections"):
        _same(what, getattr(ours, what), getattr(theirs, what))
    if theirs.requested is not None:
        _same("requested", ours.requested, theirs.requested)
    _same("losses", list(ours.losses), list(theirs.losses))
    _close("losses", ours.losses.values(), theirs.losses.values())
    _same("constraints", list(ours.constrained), list(theirs.constrained))
    _close("constraints", ours.constrained.values(), theirs.constrained.values())
    for name in theirs.initial:
        _close(f"initial value of {name}", [ours.initial[name]], [theirs.initial[name]])


def compare_bound(theirs: Outcome, ours: Outcome) -> None:
    """Raise AssertionError where jscope, bound, did something else than TensorFlow.

    Bound, nothing is created. An attempt that failed in TensorFlow while creating is not made
    again; a program that ended so ends here because the variable is missing.
    """
    _same("number of failures", len(ours.failures), len(theirs.failures))
    for our, their in zip(ours.failures, theirs.failures, strict=True):
        if their is not None and their.only_creating:
            allowed = (KeyError, _builtin(their.error))
            assert our is not None, their
            assert isinstance(our.error, allowed), (our, their)
        else:
            _same("failure", our and our.matched, their and their.matched)
    _same("notes", ours.notes, theirs.notes)
    _close("values", ours.values, theirs.values)


def _matched(outcome: Outcome) -> Any:
    return [failure and failure.matched for failure in outcome.failures]


def _builtin(error: Exception) -> type[Exception]:
    """The built-in exception that an error is: TF has classes of its own below TypeError."""
    return next(c for c in type(error).__mro__ if c.__module__ == "builtins")


def _same(what: str, ours: Any, theirs: Any) -> None:
    assert ours == theirs, f"{what}: jscope {ours}, TensorFlow {theirs}"


def _close(what: str, ours: Any, theirs: Any) -> None:
    _same(f"shapes of {what}", list(map(np.shape, ours)), list(map(np.shape, theirs)))
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            np.asarray(our, np.float64), np.asarray(their, np.float64), rtol=1e-5, err_msg=what
        )
