"""jscope: a program while it is declared, and bound to a tree."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jscope as js
from jscope import initializers as init
from jscope import regularizers

from .library import Library
from .outcome import Outcome, full, scopes_of


def run(
    program: Callable[[Library], Any], *, valued: bool = True, again: bool = False
) -> tuple[Outcome, Outcome]:
    """Run a program while declaring, then bound to values of what it declared.

    Args:
        program: The program.
        valued: Whether to compute initial values, losses and constraints.
        again: Whether to make an attempt, bound, that failed since nothing could be created.
    """
    declaring: list[Jscope] = []

    def model(scope):
        declaring.append(Jscope(scope))
        declaring[0].run(program)

    declared = js.declare(model)()
    out = declaring[0].outcome
    out.created = [(n, s.shape, s.dtype.name, s.trainable) for n, s in declared.items()]
    out.requested = dict(declared._times)
    _collections(declared, out)
    fills = js.VarTree(
        {name: full(k, shape, dtype) for k, (name, shape, dtype, _) in enumerate(out.created)}
    )
    if valued:
        _values(declared, fills, out)
    else:
        out.losses = {
            ("", name): 1.0
            for name, spec in declared.items()
            if spec.regularizer not in (None, js.no_regularizer)
        }
    bound = Jscope(js.Scope(fills), None if again else out)
    bound.run(program)
    return out, bound.outcome


class Jscope(Library):
    """The verbs, on top of scopes; the current one is the last of a list."""

    AUTO = js.AUTO_REUSE
    no_regularizer = staticmethod(js.no_regularizer)
    zeros = init.zeros
    ones = init.ones
    random = init.random_normal()

    def __init__(self, scope: js.Scope, declared: Outcome | None = None):
        super().__init__()
        self.open = [scope]
        self.declared = declared

    def run(self, program: Callable[[Library], Any]) -> None:
        with self._watched():
            program(self)
        self.outcome.failures.append(self.outcome.failures.pop(0))

    def constant(self, value):
        return init.constant(value)

    def l2(self, scale):
        return regularizers.l2(scale)

    def scope(self, name_or_scope=None, default_name=None, *more, **defaults):
        here = self.open[-1]
        return self._entered(
            lambda: here.variable_scope(name_or_scope, default_name, *more, **defaults)
        )

    @contextlib.contextmanager
    def _entered(self, scope):
        scope = scope if isinstance(scope, js.Scope) else scope()
        depth = len(self.open)
        self.open.append(scope)
        try:
            with scope:
                yield scope
        finally:
            del self.open[depth:]

    def current(self):
        return self.open[-1]

    def reuse_variables(self):
        self.open[-1] = self.open[-1].reuse_variables()

    def get(self, name, *args, **kwargs):
        return self._returned(self.open[-1].get_variable(name, *args, **kwargs))

    def local(self, name, *args, **kwargs):
        return self._returned(self.open[-1].get_local_variable(name, *args, **kwargs))

    def below(self, scope):
        return tuple(sorted(names) for names in (scope.variables(), scope.trainable_variables()))

    def template(self, name, function, create_scope_now_=False, **kwargs):
        def with_scope(scope, *args, **kwargs):
            with self._entered(scope):
                return function(self, *args, **kwargs)

        now = self.open[-1] if create_scope_now_ else False
        made = js.make_template(name, with_scope, now, **kwargs)
        return lambda *args, **kwargs: made(self.open[-1], *args, **kwargs)

    def creator(self, creator):
        return self._entered(self.open[-1].variable_creator_scope(creator))

    def attempt(self, part):
        """As ever; but what failed because nothing could be created is not tried again, bound."""
        failures = self.outcome.failures
        if self.declared is not None:
            # The program's own failure stands first here, and last there.
            before = self.declared.failures[len(failures) - 1]
            if before is not None and before.only_creating:
                failures.append(before)
                return
        super().attempt(part)

    def _returned(self, result):
        self.outcome.returned.append((result.shape, result.dtype.name))
        self.outcome.values.append(result)
        return result

    def _plain(self, value):
        if value is js.AUTO_REUSE:
            return "AUTO"
        if isinstance(value, np.dtype) or (isinstance(value, type) and value is not bool):
            return jnp.dtype(value).name
        return value


def _collections(declared: js.Declaration, out: Outcome) -> None:
    keys = {key for spec in declared.values() for key in spec.collections}
    for key in {*keys, js.GraphKeys.TRAINABLE_VARIABLES}:
        for scope in scopes_of(declared):
            out.collections[key, scope] = list(declared.collection(key, scope))
    out.collections = {place: found for place, found in out.collections.items() if found}


def _values(declared: js.Declaration, fills: js.VarTree, out: Outcome) -> None:
    out.initial = dict(declared.init(jax.random.key(0)))
    out.losses = {
        (scope, name): loss
        for scope in scopes_of(declared)
        for name, loss in declared.regularization_losses(fills, scope).items()
    }
    changed = declared.apply_constraints(fills)
    out.constrained = {n: changed[n] for n, s in declared.items() if s.constraint is not None}
