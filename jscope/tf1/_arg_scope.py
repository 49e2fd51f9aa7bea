"""slim's ``arg_scope``: default arguments of functions, as part of a scope.

A function takes them if `add_arg_scope` decorates it, as the layers of `tf1.layers` and
`tf1.contrib` are. They are a part of the scope, so they reach all that is called with it or with
scopes below it, across transforms too, and nothing else.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import jax

from .._errors import ScopeError
from .._model.signatures import named_like
from .._scope.scope import Scope

P = ParamSpec("P")
R = TypeVar("R")

_MARK = "_takes_arguments_of_scopes"


def arg_scope(
    scope: Scope, list_ops_or_scope: Sequence[Callable[..., Any]] | Scope, /, **kwargs: Any
) -> Scope:
    """A scope in which functions have other default arguments.

    >>> def model(scope, x):
    ...     scope = js.tf1.arg_scope(scope, [js.tf1.layers.dense], use_bias=False)
    ...     return js.tf1.layers.dense(scope, x, 2)
    >>> list(js.declare(model)(jnp.ones((4, 3))))
    ['dense/kernel']

    ``with tf1.arg_scope(scope, ...) as scope:`` does the same, as in slim.

    Args:
        scope: Its variables, names and defaults are those of the result.
        list_ops_or_scope: The functions, each decorated by `add_arg_scope`; or a scope, whose
            default arguments replace those of ``scope``, as with the result of slim's
            ``resnet_arg_scope()``.
        kwargs: The arguments. Those that a call gives itself win, by position or by name; then
            those of the innermost ``arg_scope``. They are compared by value, so that JAX traces a
            body once for equal ones.

    Raises:
        TypeError: If it isn't a list of functions; if one of them has no such argument; or if an
            argument is traced: it would leave its trace with the scope.
        ValueError: If a function isn't decorated.

    Source: ``tf.contrib.framework.arg_scope``, ``slim.arg_scope``. Differences: the scope is an
        argument and a result, and there is no stack of a thread; unknown arguments are
        an error here, not at the call; an argument that a call gives by position wins.
    """
    if isinstance(list_ops_or_scope, Scope):
        if kwargs:
            raise ValueError(
                "tf1.arg_scope(scope, other) takes the default arguments of another scope as they "
                f"are, so kwargs must be empty; got {sorted(kwargs)}. Write a second arg_scope."
            )
        arguments = list_ops_or_scope._context.arguments
    else:
        functions = _functions(list_ops_or_scope)
        for function in functions:
            _check(function, kwargs)
        arguments = scope._context.arguments.added(functions, kwargs)
    context = scope._context.with_arguments(arguments)
    return scope._at(context, scope._leaves, scope._begun(), scope._openings())


def _functions(given: object) -> list[Callable[..., Any]]:
    if not isinstance(given, list | tuple | set | frozenset):
        raise TypeError(
            "arg_scope: list_ops_or_scope must either be a list/tuple of functions or a scope, got "
            f"{given!r}. Write tf1.arg_scope(scope, [function], ...)."
        )
    return list(given)


def _check(function: Callable[..., Any], given: dict[str, Any]) -> None:
    name = getattr(function, "__name__", repr(function))
    if not has_arg_scope(function):
        raise ValueError(
            f"arg_scope: {name} is not decorated with @add_arg_scope, so it would not see "
            f"{sorted(given)}. Write @tf1.add_arg_scope above it; jscope.layers has "
            "tf1.layers and tf1.contrib as its twins that are."
        )
    parameters = inspect.signature(function).parameters
    any_name = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    takes = [key for key, each in parameters.items() if each.kind in _BY_NAME]
    unknown = [key for key in given if key not in takes]
    if unknown and not any_name:
        raise TypeError(
            f"arg_scope: {name} has no argument {unknown[0]!r}. It takes {', '.join(takes)}."
        )
    traced = [
        key
        for key, value in given.items()
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))
    ]
    if traced:
        raise TypeError(
            f"arg_scope: `{traced[0]}` of {name} is traced, and would leave its trace with the "
            "scope. Make it static (jax.jit(..., static_argnames=...)), or pass it in the call."
        )


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def has_arg_scope(function: Callable[..., Any]) -> bool:
    """Whether `arg_scope` can give a function default arguments.

    Source: ``tf.contrib.framework.has_arg_scope``.
    """
    return getattr(function, _MARK, False) is True


def add_arg_scope(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take default arguments from `arg_scope`.

    >>> @js.tf1.add_arg_scope
    ... def block(vs, x, depth, stride=1, scope=None):
    ...     with vs.variable_scope(scope, "block") as vs:
    ...         return js.tf1.contrib.conv2d(vs, x, depth, 3, stride)

    Args:
        function: Its first argument that is a scope is the one whose defaults it gets.

    Source: ``tf.contrib.framework.add_arg_scope``.
    """
    parameters = inspect.signature(function).parameters.values()
    by_position = [p.name for p in parameters if p.kind in _BY_POSITION]

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        scope = _scope_among(function, args, kwargs)
        defaults = scope._context.arguments.of(called)
        if defaults:
            given = {*by_position[: len(args)], *kwargs}
            kwargs.update({key: v for key, v in defaults.items() if key not in given})
        return function(*args, **kwargs)

    called = named_like(call, function)
    setattr(called, _MARK, True)
    return called


_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _scope_among(
    function: Callable[..., Any], args: tuple[object, ...], kwargs: dict[str, Any]
) -> Scope:
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, Scope):
            return argument
    name = getattr(function, "__name__", repr(function))
    raise ScopeError(
        f"{name} was called without a scope. Pass one as the first argument: "
        f"{name}(scope, x, ...); in TF1's code it was the current scope."
    )
