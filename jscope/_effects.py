"""What a model returns beside its result: new values of variables, and records.

A model is pure: `Scope.assign` and `Scope.record` write to a `Ledger`, which lives for one call
of the function that `with_updates` or `with_records` makes, and whose contents that call
returns. A ledger takes values only in the trace in which the call began; inside a transform
the same functions are written in the body, and their results returned from it:

    def body(x, layer):
        x, updates = js.with_updates(block)(layer, x)
        return x, updates

    x, updates = jax.lax.scan(body, x, layers)
    layers.update(updates)

(Tried: `jax.new_ref` as the carrier. Under the gradient of `jax.checkpoint` its writes run
twice, silently; `jax.vmap`, `jax.hessian`, carries of scans and sharing one reference fail.)

Imports: everything above it in the map of `docs/design.md`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from ._errors import ScopeError, listed
from ._lineage import Ledger
from ._scope import Scope, with_ledgers
from ._selection import Selector, matching
from ._tree import VarTree, from_flat
from ._wrapping import named_like

P = ParamSpec("P")
R = TypeVar("R")
Variables = Scope | Mapping[str, Any]


def with_updates(
    model: Callable[Concatenate[Scope, P], R], /
) -> Callable[Concatenate[Variables, P], tuple[R, VarTree]]:
    """Apply a model that assigns: ``js.with_updates(model)(variables, ...) -> (out, updates)``.

    >>> def counting(scope, x):
    ...     count = scope.get_variable("count", (), jnp.int32, trainable=False)
    ...     scope.assign("count", count + 1)
    ...     return x
    >>> state = js.init(counting)(jax.random.key(0), 1.0)
    >>> _, updates = js.with_updates(counting)(state, 1.0)
    >>> (state | updates)["count"]
    Array(1, dtype=int32)

    Args:
        model: ``model(scope, *args, **kwargs)``.

    Returns:
        A function of a tree or a scope, and of the model's other arguments. It returns what
        the model returns, and a `VarTree` of what was assigned, named relative to the tree or
        scope: ``state | updates`` is the new state. Nothing is changed; names, shapes and
        dtypes are those of the tree. A tree may come with ``rngs=``, as for `js.Scope`.

    Reads after writes see the new values, in program order. Inside a transform, see `_effects`:
    the nested call's updates are results of the body.
    """
    _check_callable(model, "with_updates")

    def applied(variables: Variables, /, *args: P.args, **kwargs: P.kwargs) -> tuple[R, VarTree]:
        scope = _scope_of(variables, kwargs, "with_updates")
        ledger = Ledger()
        try:
            out = model(with_ledgers(scope, ledger, None), *args, **kwargs)
        finally:
            entries = ledger.close()
        return out, _relative(scope, entries)

    return named_like(applied, model)


def with_records(
    model: Callable[Concatenate[Scope, P], R], selector: Selector | None = None, /
) -> Callable[Concatenate[Variables, P], tuple[R, VarTree]]:
    """Apply a model and collect `Scope.record`: ``(variables, ...) -> (out, records)``.

    Args:
        model: ``model(scope, *args, **kwargs)``, or what `with_updates` makes of one.
        selector: Which records, by their names relative to the tree or scope. Default: all.

    Returns:
        A function like that of `with_updates`, which returns the records as a `VarTree`.

    Raises:
        SelectorError: If the selector matches no record.
        ScopeError: If it matches a record that was made inside a transform by a scope from
            outside. Records of a scope that is passed to a transform are the body's own: there,
            nothing is collected unless the body says ``js.with_records``.
    """
    _check_callable(model, "with_records")

    def applied(variables: Variables, /, *args: P.args, **kwargs: P.kwargs) -> tuple[R, VarTree]:
        scope = _scope_of(variables, kwargs, "with_records")
        ledger = Ledger()
        try:
            out = model(with_ledgers(scope, None, ledger), *args, **kwargs)
        finally:
            entries, lost = ledger.close(), _relative(scope, ledger.out_of_reach)
        records = _relative(scope, entries)
        offered = from_flat({**lost, **records})
        hint = "Leave the selector out for all records."
        chosen = set(offered) if selector is None else matching(offered, selector, hint=hint)
        if chosen & set(lost):
            raise ScopeError(
                f"The records {listed(sorted(chosen & set(lost)))} were made inside a transform, "
                "from which values come out only as results. Write the function that is "
                "transformed with y, records = js.with_records(block)(scope, x) and return both; "
                "or select others."
            )
        return out, from_flat({name: records[name] for name in records if name in chosen})

    return named_like(applied, model)


def _check_callable(model: Any, what: str) -> None:
    if not callable(model):
        raise TypeError(f"js.{what} needs a model, a callable; got {model!r}.")


def _scope_of(variables: Variables, kwargs: dict[str, Any], what: str) -> Scope:
    rngs = kwargs.pop("rngs", None)
    if not isinstance(variables, Scope):
        return Scope(variables, rngs=rngs)
    if rngs is not None:
        raise ScopeError(
            f"js.{what}(model)(scope, ..., rngs=...) was given a scope, which has its own random "
            "streams. Give rngs with a tree, or write js.Scope(tree, rngs=...)."
        )
    return variables


def _relative(scope: Scope, entries: Mapping[str, Any]) -> VarTree:
    cut = len(scope.name) + 1 if scope.name else 0
    outside = [name for name in entries if name[:cut] != (scope.name + "/")[:cut]]
    if outside:
        raise ScopeError(
            f"{listed(outside)} were written inside js.with_updates or js.with_records of the "
            f"scope {scope.name!r}, and are not below it: by a template that has its variables "
            "elsewhere. Pass a scope around both."
        )
    return from_flat({name[cut:]: value for name, value in entries.items()})
