"""The exceptions of jscope, and the texts that many of their messages share.

Every exception is a `JscopeError` and also the built-in that a caller would expect, so
that ``except KeyError`` around a look-up works, and the class that TensorFlow 1 raises
where it has one (``ValueError`` for a variable that is missing or exists already).

Each survives pickling. Messages name the variable, show what was requested and what was
found, and end with the line to write instead; they are composed where they are raised,
where the facts are known, or here, where several files raise the same. A line of Python that the
command ``jscope`` must not print, since the command has options of its own, is kept apart, as the
``hint``.
"""

import contextlib
import difflib
from collections.abc import Collection, Iterable, Iterator, Sequence


class JscopeError(Exception):
    """Base class of all errors that jscope raises on purpose.

    Attributes:
        hint: The end of the message: what to write in a Python program. Empty if the whole
            message holds for the command line too.
    """

    def __init__(self, facts: str = "", hint: str = "") -> None:
        between = " " if hint and not hint.startswith("\n") else ""
        super().__init__(facts + between + hint)  # one string, so that pickle has it again
        self.hint = hint

    @property
    def facts(self) -> str:
        """The message without the hint."""
        return str(self).removesuffix(self.hint).rstrip()

    # KeyError's own __str__ would show the message in quotes.
    __str__ = Exception.__str__


class VariableNameError(JscopeError, ValueError):
    """A name that is not a legal variable or scope name."""


class MissingVariableError(JscopeError, KeyError, ValueError):
    """No variable is stored at the requested name."""


class VariableExistsError(JscopeError, ValueError):
    """A name was created twice, and sharing was not requested."""


class ShapeMismatchError(JscopeError, ValueError):
    """A variable has another shape than was requested, or than a value has."""


class DtypeMismatchError(JscopeError, TypeError, ValueError):
    """A variable has another dtype than was requested, or than a value has."""


class TreeMismatchError(JscopeError, ValueError):
    """A tree differs from its declaration or checkpoint; the message lists every difference."""


class NestingError(JscopeError, ValueError):
    """A tree whose names can't be nested: a name is both a variable and a scope."""


class NameCollisionError(JscopeError, ValueError):
    """Two variables would get one name."""


class SelectorError(JscopeError, LookupError, ValueError):
    """A selector that matches nothing, or is not a selector."""


class ScopeError(JscopeError, RuntimeError, ValueError):
    """A scope used where it can't be: after its declaration, or not a scope at all."""


class ConcreteValueError(JscopeError, TypeError, IndexError):
    """A model that needs a value while it is declared, where there are shapes and dtypes only."""


class UnboundAxisError(JscopeError, NameError):
    """A model that uses a mapped axis which is not bound."""


class BranchError(JscopeError, TypeError):
    """Branches of one `jax.lax.cond` or `jax.lax.switch` that assign different variables."""


class InitializerError(JscopeError, ValueError, TypeError):
    """An initializer that can't give the requested variable its value."""


class RegularizerError(JscopeError, ValueError, TypeError):
    """A regularizer with an invalid scale, or for a value of a dtype that has no norm."""


class ConstraintError(JscopeError, ValueError, TypeError):
    """A constraint that changes a value's shape or dtype, or is not a function."""


class CollectionError(JscopeError, ValueError, TypeError):
    """Collections of a variable that aren't a list of strings."""


class GetterError(JscopeError, ValueError, TypeError):
    """A custom getter or creator that is not a function, or that returns a wrong result."""


class ShardingError(JscopeError, ValueError):
    """A sharding that does not fit a variable or a mesh, or an invalid partitioner."""


class InitializerCycleError(InitializerError):
    """Initial values that depend on each other in a circle."""


class KeyArgumentError(JscopeError, TypeError, ValueError):
    """A PRNG key was expected, and something else was given."""


class MissingStreamError(JscopeError, KeyError, ValueError):
    """A scope has no random stream of this name."""


class RandomStreamError(JscopeError, ValueError):
    """One random key would be drawn twice."""


class IndexOutOfRangeError(JscopeError, IndexError, ValueError):
    """A scatter index outside the variable. TF: ``InvalidArgumentError``."""


class LimitReachedError(JscopeError, IndexError, ValueError):
    """A counter at its limit. TF: ``OutOfRangeError``."""


class CheckpointError(JscopeError, OSError, ValueError):
    """A checkpoint that can't be written or read.

    TF: ``ValueError`` for a path that is not a checkpoint, and for a state file that names none.
    """


class CheckpointValueError(JscopeError, TypeError, ValueError):
    """A step, a value to save, or a target to restore into that a Saver can't work with."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """No checkpoint at this path or step."""


class CheckpointExistsError(CheckpointError, FileExistsError):
    """The step is saved already, and overwriting was not requested."""


class TrainableWarning(UserWarning):
    """A trainable variable of a dtype that has no gradients."""


class ScopeWarning(UserWarning):
    """A variable that is created beside the scope of a ``with`` block, or in it after the block."""


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged or missing, and the call continued without it."""


# Texts that many messages share.


def near(name: object, known: Collection[str]) -> str:
    """For error messages: known names that look like ``name``, ``close names: 'enc/kernel'``."""
    close = difflib.get_close_matches(str(name), known, n=3)
    if close:
        return f"close names: {', '.join(map(repr, close))}"
    if not known:
        return "there are no variables at all"
    shown = listed(known, most=3)
    return f"no close name among {len(known)}: {shown}"


def listed(names: Iterable[object], most: int = 10) -> str:
    """For error messages: names in quotes, the first ``most``: ``'a', 'b' and 7 more``."""
    quoted = [repr(name) for name in names]
    more = len(quoted) - most
    return ", ".join(quoted[:most]) + (f" and {more} more" if more > 0 else "")


def with_near_names(absent: Sequence[str], tree: Collection[str]) -> str:
    """For error messages: absent names, each with the names of a tree that look like it."""
    # Near names cost a comparison with every variable, so not for hundreds of absent ones.
    first = "; ".join(f"{name!r} ({near(name, tuple(tree))})" for name in absent[:10])
    return first + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")


# A variable, or a scope, that is not there.


def missing_variable(name: object, known: Collection[str], scope: str = "") -> MissingVariableError:
    """Compose the common error for a variable whose name is not among ``known``.

    Args:
        name: What was requested, relative to ``scope``.
        known: The names there are, relative to ``scope``.
        scope: The scope that holds them, for the message.
    """
    if not isinstance(name, str):
        return MissingVariableError(f"Variables are found by name, got {name!r}.")
    whole = f"{scope}/{name}" if scope else name
    below = tuple(n for n in known if n.startswith(name + "/")) if name else ()
    if below:
        return MissingVariableError(
            f"No variable at {whole!r}: it is a scope of {len(below)} variables "
            f"({listed(below, most=3)}). Write tree.subtree({name!r}), or scope / {name!r}."
        )
    deeper = [n for n in known if n.endswith("/" + name)] if name else []
    if deeper:
        where = _parent(deeper[0], by=name.count("/") + 1)
        return MissingVariableError(
            f"No variable at {whole!r}, but {listed(deeper, most=3)} further down. Write "
            f"scope / {where!r}, or tree.subtree({where!r}), if that is meant."
        )
    return MissingVariableError(f"No variable at {whole!r} ({near(name, known)}).")


def missing_in_scope(
    scope: str, name: str, below: Collection[str], everywhere: Collection[str]
) -> MissingVariableError:
    """Compose the common error for a variable that a scope lacks; hints are from below it first."""
    if any(known.startswith(name + "/") or known.endswith("/" + name) for known in below):
        return missing_variable(name, below, scope)
    return missing_variable(f"{scope}/{name}" if scope else name, everywhere)


def missing_scope(scope: str, tree: Collection[str]) -> MissingVariableError:
    """Compose the common error for a scope that a tree lacks, with scopes that look like it."""
    scopes = {name[:i] for name in tree for i, character in enumerate(name) if character == "/"}
    what = "is a variable, not a scope" if scope in tree else "is not a scope"
    known = near(scope, sorted(scopes)) if scopes else "there are no scopes at all"
    return MissingVariableError(f"{scope!r} {what} of this tree ({known}).")


def _parent(name: str, by: int) -> str:
    return "/".join(name.split("/")[:-by])


@contextlib.contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Raise any failure of a Saver in the body as a `CheckpointError` that begins with ``what``."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        # TensorStore's messages have hundreds of lines; the whole text is in the cause.
        first = str(error).partition("\n")[0]
        raise CheckpointError(f"{what}: {type(error).__name__}: {first[:500]}") from error
