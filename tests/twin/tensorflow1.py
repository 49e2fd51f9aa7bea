"""TensorFlow 1: ``tf.compat.v1`` in graph mode."""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow

from .library import Library
from .outcome import Outcome, full, scopes_of

tf = tensorflow.compat.v1

_NO_VARIABLES = ("regularization_losses",)


def run(program: Callable[[Library], Any], *, use_resource: bool = False) -> Outcome:
    """Run a program in a graph of its own, and the graph in a session."""
    with tf.Graph().as_default():
        return _run(program, use_resource, valued=True)


def run_names(program: Callable[[Library], Any]) -> Outcome:
    """Run a program without a session, which takes most of the time.

    What is returned must be variables, so that their values are known without one.
    """
    with tf.Graph().as_default():
        return _run(program, use_resource=False, valued=False)


def _run(program: Callable[[Library], Any], use_resource: bool, valued: bool) -> Outcome:
    t = TensorFlow(use_resource)
    with tf.variable_creator_scope(t.created_by):
        with t._watched():
            program(t)
        t.outcome.failures.append(t.outcome.failures.pop(0))
    t.look_at_graph()
    if not valued:
        t.number_results()
    elif t.variables:
        t.run_session()
    return t.outcome


class TensorFlow(Library):
    """The verbs are TensorFlow's own; the rest of it looks at the graph."""

    AUTO = tf.AUTO_REUSE
    no_regularizer = staticmethod(tf.no_regularizer)

    def __init__(self, use_resource: bool):
        super().__init__()
        self.use_resource = use_resource
        self.variables: list[Any] = []
        self.results: list[Any] = []
        self.zeros, self.ones = tf.zeros_initializer(), tf.ones_initializer()
        self.random = tf.random_normal_initializer()

    def created_by(self, next_creator: Any, **kwargs: Any) -> Any:
        variable = next_creator(**kwargs)
        self.variables.append(variable)
        return variable

    def constant(self, value):
        return tf.constant_initializer(value)

    def l2(self, scale):
        return lambda w: scale * tf.nn.l2_loss(w)

    def scope(self, name_or_scope=None, default_name=None, *more, **defaults):
        return tf.variable_scope(name_or_scope, default_name, *more, **defaults)

    def current(self):
        return tf.get_variable_scope()

    def reuse_variables(self):
        tf.get_variable_scope().reuse_variables()

    def get(self, name, *args, **kwargs):
        return self._returned(tf.get_variable(name, *args, **self._with_kind(kwargs)))

    def local(self, name, *args, **kwargs):
        return self._returned(tf.get_local_variable(name, *args, **self._with_kind(kwargs)))

    def below(self, scope):
        there = scope.global_variables() + scope.local_variables()
        return tuple(
            sorted(v.op.name.removeprefix(f"{scope.name}/") for v in variables)
            for variables in (there, scope.trainable_variables())
        )

    def template(self, name, function, **kwargs):
        return tf.make_template(name, lambda *a, **k: function(self, *a, **k), **kwargs)

    def creator(self, creator):
        return tf.variable_creator_scope(creator)

    def _with_kind(self, kwargs):
        return {"use_resource": self.use_resource, **kwargs}

    def _returned(self, result):
        self.results.append(result)
        return result

    def _plain(self, value):
        if value is tf.AUTO_REUSE:
            return "AUTO"
        if isinstance(value, tf.DType):
            return value.base_dtype.name
        return value

    # Afterwards.

    def look_at_graph(self) -> None:
        out = self.outcome
        for v in self.variables:
            shape, dtype = tuple(v.shape), v.dtype.base_dtype.name
            out.created.append((v.op.name, shape, dtype, v.trainable))
        names = [v.op.name for v in self.variables]
        out.returned = [(tuple(r.shape), r.dtype.base_dtype.name) for r in self.results]
        requested = [v.op.name for r in self.results for v in self.variables if r is v]
        are_variables = len(requested) == len(self.results)
        out.requested = {name: requested.count(name) for name in names} if are_variables else None
        graph = tf.get_default_graph()
        for key in graph.get_all_collection_keys():
            if isinstance(key, str) and not key.startswith("__") and key not in _NO_VARIABLES:
                for scope in scopes_of(out.names):
                    out.collections[key, scope] = _in_scope(key, scope)
        out.collections = {place: found for place, found in out.collections.items() if found}

    def number_results(self) -> None:
        for result in self.results:
            (number,) = [k for k, v in enumerate(self.variables) if v is result]
            _, shape, dtype, _ = self.outcome.created[number]
            self.outcome.values.append(full(number, shape, dtype))
        self.outcome.losses = {("", _regularized(loss)): 1.0 for loss in _losses("")}

    def run_session(self) -> None:
        out = self.outcome
        initial = {v.op.name: v.initializer.inputs[1] for v in self.variables}
        losses = {
            (scope, _regularized(loss)): loss
            for scope in scopes_of(out.names)
            for loss in _losses(scope)
        }
        constrained = {v.op.name: v.constraint(v) for v in self.variables if v.constraint}
        with tf.Session() as session:
            first, second = session.run(initial), session.run(initial)
            out.initial = {n: first[n] for n in first if np.array_equal(first[n], second[n])}
            fills = {
                initial[name]: full(k, shape, dtype)
                for k, (name, shape, dtype, _) in enumerate(out.created)
            }
            session.run([v.initializer for v in self.variables], fills)
            out.values = session.run(self.results)
            out.losses = session.run(losses)
            out.constrained = session.run(constrained)


def _losses(scope: str) -> list[Any]:
    """The losses of a scope's variables; TF's own filter is an expression."""
    losses = tf.losses.get_regularization_losses(scope)
    return [loss for loss in losses if not scope or loss.op.name.startswith(f"{scope}/")]


def _regularized(loss: Any) -> str:
    """The variable that a loss is of."""
    return loss.op.name.partition("/Regularizer/")[0]


def _in_scope(key: str, scope: str) -> list[str]:
    """What is in a collection, at or below a scope; TF's own filter is an expression."""
    names = [item.op.name for item in tf.get_collection(key, scope)]
    return [name for name in names if not scope or f"{name}/".startswith(f"{scope}/")]
