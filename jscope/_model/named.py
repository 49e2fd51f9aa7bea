"""Functions whose operations have the names of scopes in profiles and lowered programs."""

import inspect
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from .._errors import ScopeError
from .._scope.name_stack import enter_call, leave_call
from .._scope.scope import Scope
from .signatures import name_of, named_like, plain_function

P = ParamSpec("P")
R = TypeVar("R")


def named(function: Callable[P, R]) -> Callable[P, R]:
    """Make a named function: in profiles its operations have the name of the scope it is given.

    JAX keeps names of operations for whoever profiles a program, or reads it: `jax.named_scope`
    enters them. The function enters the components of its scope's path between what is entered
    already, by ``with scope.variable_scope(...)`` or by another such function, and its scope. At
    the root, or at the boundary of the transform that the scope was passed to, there are none,
    and it enters its own name. The functions of `js.layers` and templates do the same.

    >>> @js.named
    ... def mlp(scope, x):
    ...     x = jax.nn.relu(js.layers.dense(scope / "up", x, units=64))
    ...     return js.layers.dense(scope / "down", x, units=16)
    >>> def model(scope, x):
    ...     return mlp(scope / "block_0" / "mlp", x)
    >>> x = jnp.ones((8, 16))
    >>> tree = js.init(model)(jax.random.key(0), x)
    >>> lowered = jax.jit(lambda tree, x: model(js.Scope(tree), x)).lower(tree, x)
    >>> "block_0/mlp/up/dot_general" in lowered.as_text(debug_info=True)
    True

    Nothing else changes: names are metadata, which no result and no cache of JAX depends on. In
    the body of a transform they are relative to its boundary, as `Scope.name` is, so equal blocks
    are traced once. JAX puts the names around the call before them: write
    ``js.named(jax.jit(block))(scope / "block_0", x)`` for ``block_0/jit(block)/...``.

    Args:
        function: The first of its arguments that is a scope is the one; a method may have one,
            too, behind ``self``.

    Returns:
        A function of the same name, arguments and results.

    Raises:
        TypeError: If it is a generator or a coroutine, which computes after the call.

    And from calls: ScopeError, if no argument is a scope.

    Source: `jax.named_scope`; ``tf.variable_scope``, TensorFlow 1.15, which opens a name scope.
    """
    name = name_of(function)
    code = plain_function(function)
    if any(is_later(code) for is_later in _COMPUTING_LATER):
        raise TypeError(
            f"js.named({name}): it is a generator or a coroutine, so the call returns before "
            "anything is computed. Write `with scope:` around what it computes."
        )

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[0] if args else None
        scope = first if isinstance(first, Scope) else _scope_among(args, kwargs, name)
        block = enter_call(scope._begun().base, scope.name, name)
        if block is None:
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        finally:
            leave_call(block)

    return named_like(call, function)


_COMPUTING_LATER = (
    inspect.isgeneratorfunction,
    inspect.iscoroutinefunction,
    inspect.isasyncgenfunction,
)


def _scope_among(args: tuple[object, ...], kwargs: Mapping[str, object], name: str) -> Scope:
    """In a call of a named function, the argument by which profiles name it: its scope."""
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, Scope):
            return argument
    given = ", ".join(type(argument).__name__ for argument in (*args, *kwargs.values()))
    raise ScopeError(
        f"{name} was called without a scope, after which js.named names what it computes; it was "
        f"given {given or 'no arguments'}. Pass one, as in {name}(js.Scope(tree), ...)."
    )
