"""Declaring a model: its variables' names, shapes and initializers, without computing anything.

`declare` runs a model once with abstract values and a scope that records; `init` is short for
declaring and initializing. With ``inline=True`` it runs the model with real values instead, and
each variable gets its initial value where it is first requested. Such values may depend on what
the model computes, as those of ActNorm and of weight normalization by data do. There a variable
can't be created inside a transform: its value could not leave it.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Concatenate, ParamSpec, TypeAlias

import jax
import numpy as np
from jax import Array

from .._errors import ScopeError
from .._random.initializer_bases import KnownShape
from .._random.keys import ROOT_LANES, below, check_key, draw_lanes, fold_words
from .._scope.declaring import Recorder, declaring_root
from .._scope.ledgers import Ledger
from .._scope.scope import Scope, scope_over, with_ledgers
from .._scope.transforms import trace_state, transform_around
from .._scope.usage import Usage
from .._tree.vartree import VarTree
from .._variables.initialize import initialize
from .declaration import Declaration
from .jax_errors import branches_explained, with_axes_explained, with_values_explained
from .signatures import ArgumentNames, argument_names, named_like

P = ParamSpec("P")
AxisSizes: TypeAlias = Mapping[str, int]


def declare(
    model: Callable[Concatenate[Scope, P], Any],
    /,
    *,
    axis_sizes: AxisSizes | None = None,
) -> Callable[P, Declaration]:
    """Declare a model's variables: names, shapes, initializers; nothing is computed.

    >>> def dense(scope, x, *, features):
    ...     w = scope.get_variable("w", (x.shape[-1], features))
    ...     return x @ w
    >>> declare(dense)(jnp.ones((8, 3)), features=4)["w"].shape
    (3, 4)

    Args:
        model: ``model(scope, *args, **kwargs)``.
        axis_sizes: The mapped axes that the model's own collectives use, such as `jax.lax.pmean`
            or `jax.lax.all_gather`, and their sizes: ``{"batch": 8}``. They are those of the
            `jax.shard_map` or `jax.vmap` around the program; axes of transforms in the model, and
            ``axis_name=`` of `layers.batch_norm`, need not be given.

    Returns:
        A function of the model's other arguments that returns a `Declaration`. JAX and NumPy
        arrays, `jax.ShapeDtypeStruct` and PRNG keys among the arguments are traced; everything
        else is static, NumPy scalars and arrays of strings included. To keep an array
        concrete, bind it with `functools.partial`; to trace a number, pass ``jnp.float32(v)``.

    Raises:
        TypeError: If the model is not callable, or ``axis_sizes`` are not sizes of axes.
        ValueError: If a size of an axis is less than 1.
        ConcreteValueError: From a call, if the model needs a value, as ``int(x)`` does.
        UnboundAxisError: From a call, if the model uses an axis that is not in ``axis_sizes``.
        Any error of the model and of `Scope.get_variable`.
    """
    if not callable(model):
        raise TypeError(f"js.declare needs a model, a callable; got {model!r}.")

    _check_axis_sizes(axis_sizes)

    def declared(*args: P.args, **kwargs: P.kwargs) -> Declaration:
        recorder = Recorder()
        leaves, structure = jax.tree.flatten((args, kwargs))
        traced = [_is_traced(leaf) for leaf in leaves]

        def run(*arrays: object) -> None:
            rest = iter(arrays)
            mixed = [next(rest) if t else leaf for t, leaf in zip(traced, leaves, strict=True)]
            args, kwargs = jax.tree.unflatten(structure, mixed)
            with branches_explained():
                model(_declaring_scope(recorder), *args, **kwargs)

        names, arrays = (
            list(compress(all_, traced)) for all_ in (argument_names(model, args, kwargs), leaves)
        )
        _run_abstractly(run, model, names, arrays, axis_sizes)
        return Declaration(recorder.specs(), recorder.times())

    return named_like(declared, model, first=())


def _declaring_scope(recorder: Recorder) -> Scope:
    """The scope that `declare` passes to the model; it accepts assignments and discards them."""
    context, leaves = declaring_root(recorder)
    return with_ledgers(scope_over(context, leaves, Usage()), Ledger(), None)


def _run_abstractly(
    run: Callable[..., None],
    model: Callable[..., Any],
    names: Sequence[str],
    arrays: Sequence[object],
    axis_sizes: AxisSizes | None,
) -> None:
    """Declare by tracing ``run(*arrays)`` on abstract values, under the name of the model.

    Args:
        run: Calls the model.
        model: The model, for its name and its line in the user's code.
        names: The names of the arrays.
        arrays: What is traced.
        axis_sizes: Mapped axes and their sizes; none by default.

    Raises:
        ConcreteValueError: If the model needs a value.
        UnboundAxisError: If it uses an axis that is not in ``axis_sizes``.
    """
    named_like(run, model)
    run.__signature__ = ArgumentNames(names)  # type: ignore[attr-defined]
    cure = (
        "Give the axes and their sizes: "
        "js.declare({model}, axis_sizes={{{axis!r}: 8}})(...), and so for js.init."
    )
    with with_axes_explained(model, cure), with_values_explained(model):
        if axis_sizes:
            # Not a vmap of the model: JAX 0.10 gives an all_to_all of what is not mapped another
            # shape there than in jax.shard_map.
            jax.make_jaxpr(run, axis_env=list(axis_sizes.items()))(*arrays)
        else:
            jax.eval_shape(run, *arrays)


def _check_axis_sizes(axis_sizes: object) -> None:
    """Raise unless the ``axis_sizes`` of a declaration map strings to ints of at least 1.

    Raises:
        TypeError: If they are something else.
        ValueError: If a size is less than 1.
    """
    if axis_sizes is None:
        return
    if not isinstance(axis_sizes, Mapping):
        raise TypeError(f"{_AXIS_SIZES}; got {axis_sizes!r}.")
    for name, size in axis_sizes.items():
        if not isinstance(name, str):
            raise TypeError(f"{_AXIS_SIZES}; got {name!r} as the name of an axis.")
        try:
            number = operator.index(size)
        except TypeError:
            raise TypeError(f"{_AXIS_SIZES}; got {size!r} as the size of {name!r}.") from None
        if number < 1:
            raise ValueError(f"{_AXIS_SIZES}, of at least 1; got {size!r} as the size of {name!r}.")


_AXIS_SIZES = "`axis_sizes` maps the names of axes to their sizes, such as {'b': 8}"


def init(
    model: Callable[Concatenate[Scope, P], Any],
    /,
    *,
    inline: bool = False,
    axis_sizes: AxisSizes | None = None,
) -> Callable[Concatenate[Array, P], VarTree]:
    """Initial values of a model: ``init(model)(key, ...)`` is ``declare(model)(...).init(key)``.

    Under ``jax.jit`` it is one graph, which contains the initializers only, not the model.

    Args:
        model: ``model(scope, *args, **kwargs)``.
        inline: Run the model once with these arguments, and give each variable its
            initial value where it is first requested. Then initial values may depend on what
            the model computes (ActNorm, weight normalization by data); the others are the
            same, bit for bit. Variables can't be created inside transforms.
        axis_sizes: As for `declare`. Not with ``inline``, which uses the axes that there are:
            call it in the function that is passed to `jax.shard_map` or `jax.vmap`.

    >>> def actnorm(scope, x):
    ...     scale = scope.get_variable("scale", initializer=1 / x.std(axis=0))
    ...     return x * scale
    >>> x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
    >>> js.init(actnorm, inline=True)(jax.random.key(0), x)["scale"]
    Array([1. , 0.1], dtype=float32)
    """
    declaring = declare(model, axis_sizes=axis_sizes)
    if inline and axis_sizes is not None:
        raise TypeError(
            f"js.init(model, inline=True, axis_sizes={axis_sizes!r}) is not possible: "
            f"it needs the values along mapped axes, not their sizes alone. {_WHERE_THE_AXIS_IS}"
        )

    def initialized(key: Array, /, *args: P.args, **kwargs: P.kwargs) -> VarTree:
        return declaring(*args, **kwargs).init(key)

    def initialized_inline(key: Array, /, *args: P.args, **kwargs: P.kwargs) -> VarTree:
        abstract = [
            leaf
            for leaf in jax.tree.leaves((args, kwargs))
            if isinstance(leaf, jax.ShapeDtypeStruct)
        ]
        if abstract:
            raise TypeError(
                f"js.init(model, inline=True) runs the model, which needs values; got "
                f"{abstract[0]}. Pass arrays, or write js.init(model) if no initial value depends "
                "on data."
            )
        recorder = InlineRecorder(key)
        with with_axes_explained(model, _WHERE_THE_AXIS_IS), branches_explained():
            model(_declaring_scope(recorder), *args, **kwargs)
        return VarTree(recorder.values)

    return named_like(initialized_inline if inline else initialized, model, first=("key",))


_WHERE_THE_AXIS_IS = (
    "Call js.init(model, inline=True) where the axis is: in the function that is passed to "
    "jax.shard_map or jax.vmap."
)


def _is_traced(leaf: object) -> bool:
    if isinstance(leaf, np.ndarray):
        # V: ml_dtypes' own; not strings, objects, dates, nor records.
        return leaf.dtype.kind in "biufcV" and leaf.dtype.names is None
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


# Initializing a model while it runs.


@dataclass(frozen=True, eq=False)
class _Computed(KnownShape):
    """While a model is declared with ``inline=True``: the initializer of a value it computed."""

    value: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    def __call__(self, key: object, shape: object, dtype: object = None) -> Array:
        del key, shape, dtype  # the caller compares them with the result
        return self.value


class InlineRecorder(Recorder):
    """What declares a model in ``init(model, inline=True)``: a recorder with initial values."""

    has_values = True

    def __init__(self, key: Array):
        super().__init__()
        self._key = check_key(key)
        self._trace = trace_state()
        self.values: dict[str, Array] = {}

    def value(self, name: str, seen: jax.ShapeDtypeStruct) -> Array:
        """A variable's value; a new one's initial value.

        It is whole: creation inside a transform fails, so no scope sees a slice or a shard.
        """
        if name not in self.values:
            if trace_state() != self._trace:
                raise ScopeError(
                    f"Variable {name!r} would be created inside {transform_around()}. With "
                    "inline=True initial values are computed where the model runs, and a value "
                    "computed inside a transform can't leave it. Call the function without the "
                    "transform while initializing, request the variable before the transform, or "
                    "write js.init(model) if no initial value depends on data."
                )
            self.values[name] = initialize(self.specs(), [name], self._key, self.values)[name]
        return self.values[name]

    def accepted(self, name: str, initializer: object) -> object:
        """The initializer of a new variable; it may depend on what the model computed."""
        return _Computed(initializer) if isinstance(initializer, jax.core.Tracer) else initializer

    def draw(self, scope: str, stream: str, name: str | None) -> Array:
        """A random key, from the key of the initial values."""
        lanes = below(ROOT_LANES, scope) if scope else ROOT_LANES
        return fold_words(self._key, draw_lanes(lanes, stream, name))
