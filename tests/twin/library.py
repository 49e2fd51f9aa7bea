"""The verbs that programs use: TF1's, with a current scope.

    def shared_towers(t):
        for i in range(3):
            with t.scope("tower", reuse=i > 0):
                t.get("w", (2, 2))

Dtypes are strings. Initializers, regularizers and constraints are the library's attributes below,
or what works in both: numbers, arrays, and functions of a value made of operators.
"""

import abc
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from .outcome import Failure, Outcome


class Library(abc.ABC):
    """What TensorFlow and jscope both have, under TF1's names."""

    AUTO: Any  # tf.AUTO_REUSE
    no_regularizer: Any
    zeros: Any  # initializers; the same object each time
    ones: Any
    random: Any  # values that nobody can foresee

    def __init__(self) -> None:
        self.outcome = Outcome()

    @abc.abstractmethod
    def constant(self, value: float) -> Any:
        """An initializer: the value, everywhere."""

    @abc.abstractmethod
    def l2(self, scale: float) -> Any:
        """A regularizer: half the sum of squares, scaled."""

    @abc.abstractmethod
    def scope(
        self,
        name_or_scope: Any = None,
        default_name: str | None = None,
        *more: Any,
        **defaults: Any,
    ) -> contextlib.AbstractContextManager[Any]:
        """``tf.variable_scope``; gives a scope, which has a ``name`` and so on."""

    @abc.abstractmethod
    def current(self) -> Any:
        """``tf.get_variable_scope()``."""

    @abc.abstractmethod
    def reuse_variables(self) -> None:
        """``tf.get_variable_scope().reuse_variables()``."""

    @abc.abstractmethod
    def get(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """``tf.get_variable``."""

    @abc.abstractmethod
    def local(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """``tf.get_local_variable``."""

    @abc.abstractmethod
    def below(self, scope: Any) -> tuple[list[str], list[str]]:
        """The names of a scope's variables, and of the trainable ones, relative to it, sorted."""

    @abc.abstractmethod
    def template(self, name: str, function: Callable[..., Any], **kwargs: Any) -> Any:
        """``tf.make_template``; the function's first argument is this library."""

    @abc.abstractmethod
    def creator(self, creator: Callable[..., Any]) -> contextlib.AbstractContextManager[Any]:
        """``tf.variable_creator_scope``."""

    def attempt(self, part: Callable[[], Any]) -> None:
        """Run a part of the program that may fail, and go on."""
        with self._watched():
            part()

    def note(self, *values: Any) -> None:
        """Have values compared: names, truth, reuse, dtypes."""
        self.outcome.notes.append(tuple(map(self._plain, values)))

    @abc.abstractmethod
    def _plain(self, value: Any) -> Any:
        """A value as the other library would have it."""

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        at = len(self.outcome.failures)
        self.outcome.failures.append(None)
        try:
            yield
        except Exception as error:
            self.outcome.failures[at] = Failure(error)
