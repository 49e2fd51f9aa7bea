"""Declaring a model: its variables' names, shapes and initialisers, without computing anything.

`declare` runs a model once with abstract values and a scope that records. What it returns,
a `Declaration`, is where all metadata of variables lives; it is never boxed around arrays nor
part of a tree's structure, so a restored tree, a gradient and a tree of parameters are one
type with one structure.

Imports: everything above it in the map of `docs/design.md`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ._compare import differences
from ._errors import (
    MissingVariableError,
    RegularizerError,
    SelectorError,
    TreeMismatchError,
    listed,
    near,
)
from ._initialize import initialize
from ._inline import InlineRecorder
from ._keys import check_key
from ._recorder import Recorder, VariableSpec
from ._scope import Scope, declaring_scope
from ._selection import Selector, matching, partition
from ._table import bytes_text, table
from ._tree import VarTree, as_tree, value_bytes

P = ParamSpec("P")


class Declaration(Mapping[str, VariableSpec]):
    """What a model declared: an ordered mapping from name to `VariableSpec`.

    Prints as a table, with the number of times that each variable was asked for: sharing
    across a transform's boundary can't be detected, but here it can be seen.
    """

    __slots__ = ("_specs", "_times")

    def __init__(self, specs: Mapping[str, VariableSpec], times: Mapping[str, int] | None = None):
        self._specs = dict(specs)
        self._times = dict.fromkeys(specs, 1) if times is None else dict(times)

    def __getitem__(self, name: str) -> VariableSpec:
        if name not in self._specs:
            raise MissingVariableError(
                f"No variable {name!r} is declared ({near(name, self._specs)})."
            )
        return self._specs[name]

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    @property
    def trainable(self) -> tuple[str, ...]:
        """The names of the trainable variables; a selector."""
        return tuple(name for name, spec in self._specs.items() if spec.trainable)

    def abstract(self) -> VarTree:
        """A tree of `jax.ShapeDtypeStruct`, such as `js.Saver.restore` takes as its target."""
        return VarTree(
            {name: jax.ShapeDtypeStruct(s.shape, s.dtype) for name, s in self._specs.items()}
        )

    def init(
        self,
        key: Array,
        *,
        given: Mapping[str, Any] | None = None,
        only: Selector | None = None,
        donate_given: bool = False,
    ) -> VarTree:
        """Initial values: of a whole model, of what a tree lacks, or of a selection.

        The value of a variable is ``initializer(fold_in(fold_in(key, w0), w1), shape, dtype)``
        where ``(w0, w1)`` are the words of its name (`docs/design.md`, "Keys"). It depends on
        nothing else: the same bits come out alone, with others, in any order, and under jit.

        Args:
            key: The root key.
            given: Values to keep. Without ``only``, variables that are not given are
                initialised.
            only: A selector of declared names: exactly these are initialised, given or not
                (TF: ``variables_initializer([...])``); the result has these and ``given``.
            donate_given: Whether the result may hold the given arrays themselves. By default
                they are copied, so that donating the result to a jitted step leaves ``given``
                alone.

        Returns:
            A tree in which no two variables share a buffer. No argument is changed.

        Raises:
            TreeMismatchError: If ``given`` has a variable that is not declared, or with another
                shape or dtype, or without a value; all such are listed.
            SelectorError: If ``only`` matches nothing.
            KeyArgumentError: If ``key`` is not one PRNG key.
        """
        key = check_key(key)
        kept = VarTree() if given is None else as_tree(given)
        self._check(kept, "`given`", [name for name in self._specs if name in kept])
        abstract = [name for name, v in kept.items() if isinstance(v, jax.ShapeDtypeStruct)]
        if abstract:
            raise TreeMismatchError(
                f"`given` has a ShapeDtypeStruct, which is no value, at {listed(abstract)}. "
                "Leave out what shall be initialised."
            )
        if only is None:
            names = [name for name in self._specs if name not in kept]
        else:
            chosen = matching(self._specs, only)
            names = [name for name in self._specs if name in chosen]
        fresh = initialize(self._specs, names, key, kept)
        stay = {name: value for name, value in kept.items() if name not in fresh}
        if not donate_given:
            stay = {name: _copy(value) for name, value in stay.items()}
        return VarTree({**stay, **fresh})

    def split(self, tree: Mapping[str, Any]) -> tuple[VarTree, VarTree]:
        """The trainable variables of a tree, and the rest: ``params, state``.

        Raises:
            SelectorError: If the tree has variables that are not declared.
        """
        tree = as_tree(tree)
        unknown = [name for name in tree if name not in self._specs]
        if unknown:
            raise SelectorError(
                "Of what isn't declared, split can't tell whether it is trainable: "
                f"{listed(unknown)} ({near(unknown[0], self._specs)}). js.drop it first."
            )
        params, state = partition(tree, self.trainable, allow_empty=True)
        return params, state

    def missing(self, tree: Mapping[str, Any]) -> tuple[str, ...]:
        """The declared names that a tree lacks. TF: ``report_uninitialized_variables``."""
        there = as_tree(tree)
        return tuple(name for name in self._specs if name not in there)

    def check(self, tree: Mapping[str, Any]) -> None:
        """Raise unless a tree has exactly the declared names, shapes and dtypes.

        Raises:
            TreeMismatchError: With every difference.
        """
        self._check(as_tree(tree), "the tree", self._specs)

    def _check(self, tree: VarTree, what: str, names: Iterable[str]) -> None:
        expected = {name: self._specs[name] for name in names}
        lines = differences(expected, tree, "declared", f"in {what}").lines
        if lines:
            raise TreeMismatchError(
                f"{what[0].upper()}{what[1:]} differs from the declaration in {len(lines)} "
                f"place{'s' * (len(lines) > 1)}:\n"
                + "\n".join(f"  {line}" for line in lines)
                + "\nDeclare the model with the settings the tree was made with, or js.select, "
                "js.drop or js.rename the tree's variables."
            )

    def regularization_loss(self, tree: Mapping[str, Any]) -> Array:
        """The sum of all regularizers' values; 0 if there are none.

        Args:
            tree: Has at least the variables that have a regularizer.

        Returns:
            A scalar, float32 (float64 if a term is).

        Raises:
            MissingVariableError: If the tree lacks a variable that has a regularizer.
            RegularizerError: If a regularizer gives no scalar.

        Source: ``tf.losses.get_regularization_loss``.
        """
        tree = as_tree(tree)
        terms = {
            name: spec.regularizer(tree[name])
            for name, spec in self._specs.items()
            if spec.regularizer is not None
        }
        arrays = [_scalar(name, term) for name, term in terms.items() if term is not None]
        wide = any(term.dtype == jnp.float64 for term in arrays)
        dtype = jnp.float64 if wide else jnp.float32
        return sum((term.astype(dtype) for term in arrays), start=jnp.zeros((), dtype))

    def __repr__(self) -> str:
        sizes = {name: int(np.prod(s.shape, dtype=object)) for name, s in self._specs.items()}
        sizes_bytes = {name: value_bytes(spec) for name, spec in self._specs.items()}
        rows = [
            (
                name,
                str(spec.shape),
                str(spec.dtype),
                "yes" if spec.trainable else "no",
                f"{sizes[name]:,}",
                bytes_text(sizes_bytes[name]),
                str(self._times[name]),
            )
            for name, spec in self._specs.items()
        ]
        header = ("name", "shape", "dtype", "trainable", "parameters", "bytes", "asked")
        trained = sum(sizes[name] for name in self.trainable)
        total = (
            f"{len(self):,} variables, {sum(sizes.values()):,} parameters ({trained:,} trainable), "
            f"{bytes_text(sum(sizes_bytes.values()))}"
        )
        if not rows:
            return "Declaration of no variables"
        body = table(header, rows, right=("parameters", "bytes", "asked"))
        return f"Declaration of {total}\n{body}"


def declare(model: Callable[Concatenate[Scope, P], Any], /) -> Callable[P, Declaration]:
    """Declare a model's variables: names, shapes, initialisers; nothing is computed.

    >>> def dense(scope, x, *, features):
    ...     w = scope.get_variable("w", (x.shape[-1], features))
    ...     return x @ w
    >>> declare(dense)(jnp.ones((8, 3)), features=4)["w"].shape
    (3, 4)

    Args:
        model: ``model(scope, *args, **kwargs)``.

    Returns:
        A function of the model's other arguments that returns a `Declaration`. JAX and NumPy
        arrays, `jax.ShapeDtypeStruct` and PRNG keys among the arguments are traced; everything
        else is static, NumPy scalars and arrays of strings included. To keep an array
        concrete, bind it with `functools.partial`; to trace a number, pass ``jnp.float32(v)``.

    Raises:
        TypeError: If the model is not callable.
        Whatever the model and `Scope.get_variable` raise.
    """
    if not callable(model):
        raise TypeError(f"js.declare needs a model, a callable; got {model!r}.")

    def declared(*args: P.args, **kwargs: P.kwargs) -> Declaration:
        recorder = Recorder()
        leaves, structure = jax.tree.flatten((args, kwargs))
        traced = [_is_traced(leaf) for leaf in leaves]

        def run(arrays: list[Any]) -> None:
            rest = iter(arrays)
            mixed = [next(rest) if t else leaf for t, leaf in zip(traced, leaves, strict=True)]
            args, kwargs = jax.tree.unflatten(structure, mixed)
            model(declaring_scope(recorder), *args, **kwargs)

        jax.eval_shape(run, [leaf for t, leaf in zip(traced, leaves, strict=True) if t])
        return Declaration(recorder.specs(), recorder.times())

    return declared


def init(
    model: Callable[Concatenate[Scope, P], Any], /, *, inline: bool = False
) -> Callable[Concatenate[Array, P], VarTree]:
    """Initial values of a model: ``init(model)(key, ...)`` is ``declare(model)(...).init(key)``.

    Under ``jax.jit`` it is one graph, in which the model itself leaves no trace.

    Args:
        model: ``model(scope, *args, **kwargs)``.
        inline: Run the model once with these very arguments, and give each variable its
            initial value where it is first asked for. Then initial values may depend on what
            the model computes (ActNorm, weight normalisation by data); the others are the
            same, bit for bit. Variables can't be created inside transforms.

    >>> def actnorm(scope, x):
    ...     scale = scope.get_variable("scale", initializer=1 / x.std(axis=0))
    ...     return x * scale
    >>> x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
    >>> js.init(actnorm, inline=True)(jax.random.key(0), x)["scale"]
    Array([1. , 0.1], dtype=float32)
    """
    declaring = declare(model)

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
        model(declaring_scope(recorder), *args, **kwargs)
        return VarTree(recorder.values)

    return initialized_inline if inline else initialized


def _is_traced(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray):
        # V: ml_dtypes' own; not strings, objects, dates, nor records.
        return leaf.dtype.kind in "biufcV" and leaf.dtype.names is None
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _scalar(name: str, term: Any) -> Array:
    if np.shape(term):
        raise RegularizerError(
            f"The regularizer of {name!r} gave an array of shape {np.shape(term)}; it must give a "
            "scalar, such as the sum."
        )
    return jnp.asarray(term)


def _copy(value: Any) -> Array:
    return value.copy() if isinstance(value, jax.Array) else jnp.array(value, copy=True)
