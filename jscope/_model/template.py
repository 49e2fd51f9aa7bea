"""Templates: a function bound to a name, whose calls share their variables.

A template holds no variables and no scope. The usage tracker of a run's scopes records which scope
the template's first call opened; so one template serves any number of models, declarations and
applications.

Source: ``tf.make_template``, TensorFlow 1.15, ``python/ops/template.py``.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from .._errors import ScopeError, VariableExistsError
from .._names.names import check, inside
from .._names.unique import Openings
from .._scope.bound import Bound
from .._scope.call_sites import Site, call_site, site_text
from .._scope.context import Leaves
from .._scope.declaring import Declaring
from .._scope.getters import CustomGetter
from .._scope.scope import Scope
from .._scope.transforms import trace_state, transform_or_thread
from .signatures import named_like

R = TypeVar("R")


def make_template(
    name_: str,
    func_: Callable[..., R],
    create_scope_now_: Scope | bool = False,
    unique_name_: str | None = None,
    custom_getter_: CustomGetter | None = None,
    **kwargs: object,
) -> "Template[R]":
    """Bind a function to a name: its first call creates variables, all later ones share them.

    >>> def dense(scope, x, *, features):
    ...     return x @ scope.get_variable("w", (x.shape[-1], features))
    >>> encode = js.make_template("encode", dense, features=3)
    >>> def model(scope, x, y):
    ...     return encode(scope, x) - encode(scope / "elsewhere", y)
    >>> list(js.declare(model)(jnp.ones((2, 4)), jnp.ones((2, 4))))
    ['encode/w']

    Args:
        name_: The name of a scope, made unique in the scope of the first call as a default name
            is (`Scope.variable_scope`): two templates ``"encode"`` get ``encode`` and
            ``encode_1``, in the order of their first calls.
        func_: ``func_(scope, *args, **kwargs)``.
        create_scope_now_: A scope, to open the template's in it now instead of at the first call.
        unique_name_: The name itself, which is not made unique. Needed where default names can't
            be counted: if the first call is in a transform's body.
        custom_getter_: For the variables of ``func_``.
        kwargs: Passed on in each call.

    Returns:
        ``template(scope, *args, **kwargs)``. The first call with a scope of a run decides where
        the variables are; later ones, with any scope of this run, share them. A run is what
        one root scope begins: one declaration, or one ``js.Scope(tree)``.

    Raises:
        ValueError: If ``name_`` is None.
        ScopeError: If ``create_scope_now_`` is True.
        VariableNameError: If a name isn't legal.

    And from calls: VariableExistsError, if a later one creates a trainable variable; what
    ``func_`` and `Scope.get_variable` raise, with a note that says where the template was made.

    Source: ``tf.make_template``. Differences: the scope is passed in each call, so
        ``create_scope_now_`` is one; the note is beside the error's text.
    """
    if name_ is None:
        raise ValueError("name cannot be None.")
    if create_scope_now_ is True:
        raise ScopeError(
            f"make_template({name_!r}, ...) was passed create_scope_now_=True. There is no "
            "current scope: write create_scope_now_=scope, in which the template's scope is opened."
        )
    func = functools.partial(func_, **kwargs) if kwargs else func_
    unique = None if unique_name_ is None else check(unique_name_)
    template = Template(check(name_), func, unique, custom_getter_, call_site())
    if create_scope_now_:
        template.enter(create_scope_now_)
    return template


@dataclass
class _Entered:
    """A template's scope in one run; not as a `Scope`, whose usage tracker refers to this."""

    context: Bound | Declaring
    leaves: Leaves
    opened: Openings
    trace: object  # of the call that opened it
    was_called: bool = False


class Template(Generic[R]):
    """The result of `make_template`. Compared by identity; holds no state."""

    # With a `__dict__`, for the function's own name and signature.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_getter",
        "_kind",
        "_naming",
        "_site",
        "_unique_name",
        "func",
        "name",
    )

    def __init__(
        self,
        name: str,
        func: Callable[..., R],
        unique_name: str | None,
        getter: CustomGetter | None,
        site: Site,
        *,
        kind: str = "template",
        naming: str = "make_template(..., unique_name_={!r})",
    ):
        self.name = name
        self._kind = kind  # with `naming`, for messages: what has the template, how it gets a name
        self._naming = naming
        self.func = func
        self._unique_name = unique_name
        self._getter = getter
        self._site = site
        named_like(self, func)

    def __call__(self, scope: Scope, /, *args: object, **kwargs: object) -> R:
        """Call the function in the template's scope."""
        try:
            entered = scope._begun().templates.get(self)
            if entered is None:
                here, entered = self.enter(scope)
            else:
                here = self._again(entered, scope)
            if entered.was_called:
                return self._checked(here, args, kwargs)
            with here:
                result = self.func(here, *args, **kwargs)
            entered.was_called = True
            return result
        except Exception as error:
            error.add_note(
                f"(In the {self._kind} {self.name!r}, originally defined at:\n"
                f"{site_text(self._site)})"
            )
            raise

    def enter(self, scope: Scope) -> tuple[Scope, _Entered]:
        """Open the template's scope."""
        if self._unique_name is None and not scope._begun().runs_once():
            raise ScopeError(
                f"The {self._kind} {self.name!r} was called for the first time "
                f"{transform_or_thread()}, where its name can't be made unique: JAX may run a body "
                f"once for two calls. Write {self._naming.format(self.name)}, or call it outside "
                "first, and in the body with a scope from outside."
            )
        first = scope.variable_scope(self._unique_name, self.name, custom_getter=self._getter)
        entered = _Entered(first._context, first._leaves, first._openings(), trace_state())
        scope._begun().templates[self] = entered
        return first, entered

    def around(self, scope: Scope) -> Scope | None:
        """A scope for calls in a body of the library's own: this one, or else the template's own.

        None before the first call: `enter` comes first.
        """
        entered = scope._begun().templates.get(self)
        if entered is None:
            return None
        there = self._again(entered, scope)
        return scope if any(inside(scope._path, [there._path])) else there

    def _again(self, entered: _Entered, scope: Scope) -> Scope:
        """The template's scope, entered once more."""
        first = scope._at(entered.context, entered.leaves, scope._begun(), entered.opened)
        there = scope.variable_scope(first, reuse=entered.was_called)
        # With the values and keys of the scope that is passed, if it is this or around; else with
        # those of the scope that was passed first.
        if scope._path == there._path:
            return scope._at(there._context, scope._leaves, scope._usage, there._opened)
        for relative in inside(scope._path, [there._path]):
            below = scope / relative
            return below._at(there._context, below._leaves, below._usage, there._opened)
        if trace_state() != entered.trace:
            raise ScopeError(
                f"The {self._kind} {self.name!r} has its variables in the scope {there._path!r}, "
                f"which was opened in another trace, and {scope._path!r} has none of them. Pass a "
                f"scope around {there._path!r}."
            )
        return there

    def _checked(self, scope: Scope, args: tuple[object, ...], kwargs: Mapping[str, object]) -> R:
        """A later call, which may create no trainable variable."""
        before = _created_trainable(scope)
        with scope:
            result = self.func(scope, *args, **kwargs)
        created = [name for name in _created_trainable(scope) if name not in before]
        if created:
            raise VariableExistsError(
                "Trainable variable created when calling a template after the first time, perhaps "
                f"through a scope from outside of the {self._kind} {self.name!r}: {created}"
            )
        return result

    def __repr__(self) -> str:
        return f"make_template({self.name!r}, {self.func!r})"


def _created_trainable(scope: Scope) -> dict[str, None]:
    """The trainable variables there are around a template's call; none in a bound scope."""
    created = scope._context.created()
    return dict.fromkeys(name for name, spec in created.items() if spec.trainable)
