"""Results of a model beside its return value: new values of variables, and records.

A model is pure: `Scope.assign` and `Scope.record` write to a `Ledger`, which lives for one call
of the function that `with_updates` or `with_records` makes, and whose contents that call
returns. A ledger takes values only in the trace in which the call began; inside a transform,
write the same functions in the body, and return their results from it:

    def body(x, layer):
        x, updates = js.with_updates(block)(layer, x)
        return x, updates

    x, updates = jax.lax.scan(body, x, layers)
    layers.update(updates)

(Tried: `jax.new_ref` as the carrier. Under the gradient of `jax.checkpoint` its writes run
twice, silently; `jax.vmap`, `jax.hessian`, carries of scans and sharing one reference fail.)
"""

from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from .._errors import ScopeError, listed
from .._scope.ledgers import Ledger, RecordsLedger, out_of_reach
from .._scope.scope import Scope, with_ledgers
from .._tree.selection import Selector, drop, matching
from .._tree.vartree import VarTree, from_flat
from .jax_errors import branches_explained
from .signatures import named_like

P = ParamSpec("P")
R = TypeVar("R")
Variables = Scope | Mapping[str, Any]


def with_updates(
    model: Callable[Concatenate[Scope, P], R], /, *, always: Selector | None = None
) -> Callable[Concatenate[Variables, P], tuple[R, VarTree]]:
    """Apply a model and collect its effects, new values: ``(variables, ...) -> (out, updates)``.

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
        always: Selects variables whose values are among the updates whether they were assigned or
            not. So the branches of `jax.lax.cond` return the same structure, though each assigns
            other variables. While declaring, when not all of them exist yet, they are left out.

    Returns:
        A function of a tree or a scope, and of the model's other arguments. It returns what
        the model returns, and a `VarTree` of what was assigned, named relative to the tree or
        scope: ``state | updates`` is the new state. Nothing is changed; names, shapes and
        dtypes are those of the tree. A tree may come with ``rngs=``, as for `js.Scope`.

    Raises:
        SelectorError: From a call, if ``always`` selects no variable of the tree or scope.
        BranchError: From a call, if inside it branches of `jax.lax.cond` or `jax.lax.switch`
            assign different variables.

    Reads after writes see the new values, in program order. A scope that leaves the call, in the
    result or otherwise, has the values that were there when it ended. Inside a transform, see
    `_model.effects`: the nested call's updates are results of the body.

    >>> def accept(scope, x):
    ...     scope.assign("accepted", scope["accepted"] + 1)
    >>> def reject(scope, x):
    ...     scope.assign("rejected", scope["rejected"] + 1)
    >>> branches = [js.with_updates(branch, always="*") for branch in (accept, reject)]
    >>> scope = js.Scope({"accepted": jnp.int32(0), "rejected": jnp.int32(0)})
    >>> _, updates = jax.lax.cond(True, *branches, scope, 1.0)
    >>> {name: int(value) for name, value in updates.items()}
    {'accepted': 1, 'rejected': 0}
    """
    _check_callable(model, "with_updates")

    def applied(variables: Variables, /, *args: P.args, **kwargs: P.kwargs) -> tuple[R, VarTree]:
        scope = _scope_of(variables, kwargs, "with_updates")
        ledger = Ledger()
        inner = with_ledgers(scope, ledger, None)
        try:
            with branches_explained():
                out = model(inner, *args, **kwargs)
        finally:
            ledger.close()
        updates = _relative(scope, ledger.entries)
        return out, updates if always is None else _completed(updates, inner, always)

    return named_like(applied, model)


def with_records(
    model: Callable[Concatenate[Scope, P], R], selector: Selector | None = None, /
) -> Callable[Concatenate[Variables, P], tuple[R, VarTree]]:
    """Apply a model and collect its effects, records: ``(variables, ...) -> (out, records)``.

    Args:
        model: ``model(scope, *args, **kwargs)``, or what `with_updates` makes of one.
        selector: Which records, by their names relative to the tree or scope. Default: all.

    Returns:
        A function like that of `with_updates`, which returns the records as a `VarTree`.

    Raises:
        SelectorError: If the selector matches no record.
        ScopeError: If it matches a record that is made in the body of a transform, from which it
            can't be returned. Write ``js.with_records`` in the body, and return what it gives.
    """
    _check_callable(model, "with_records")

    def applied(variables: Variables, /, *args: P.args, **kwargs: P.kwargs) -> tuple[R, VarTree]:
        scope = _scope_of(variables, kwargs, "with_records")
        ledger = RecordsLedger(scope._path, selector, scope._begun().records)
        try:
            with branches_explained():
                out = model(with_ledgers(scope, None, ledger), *args, **kwargs)
        finally:
            ledger.close()
        records, lost = (_relative(scope, e) for e in (ledger.entries, ledger.out_of_reach))
        offered = from_flat({**lost, **records})
        hint = "Leave the selector out for all records."
        chosen = set(offered) if selector is None else matching(offered, selector, hint=hint)
        if chosen & set(lost):
            raise out_of_reach(sorted(chosen & set(lost)))
        return out, from_flat({name: records[name] for name in records if name in chosen})

    return named_like(applied, model)


def _completed(updates: VarTree, scope: Scope, always: Selector) -> VarTree:
    """A model's effects: the updates of `with_updates`, and the values that ``always`` selects."""
    if not scope._context.has_values:
        return drop(updates, always, allow_empty=True)
    values = VarTree(scope)
    return updates | {name: values[name] for name in matching(values, always)}


def _check_callable(model: object, what: str) -> None:
    if not callable(model):
        raise TypeError(f"js.{what} needs a model, a callable; got {model!r}.")


def _scope_of(variables: Variables, kwargs: dict[str, Any], what: str) -> Scope:
    """The scope that `with_updates` or `with_records` was called with, or one over a tree."""
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
    """A ledger's entries as updates or records: a tree with names relative to the scope."""
    path = scope._path
    cut = len(path) + 1 if path else 0
    outside = [name for name in entries if name[:cut] != (path + "/")[:cut]]
    if outside:
        raise ScopeError(
            f"{listed(outside)} were written inside js.with_updates or js.with_records of the "
            f"scope {path!r}, and are not below it: by a template that has its variables "
            "elsewhere. Pass a scope around both."
        )
    return from_flat({name[cut:]: value for name, value in entries.items()})
