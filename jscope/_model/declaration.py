"""`Declaration`: all that is known of a model's variables, beside their values.

All metadata of variables is kept here; arrays have no wrapper, and a tree's structure has no
metadata, so a restored tree, a gradient and a tree of parameters are one type with one
structure.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding

from .._errors import (
    ConstraintError,
    MissingVariableError,
    RegularizerError,
    SelectorError,
    ShardingError,
    TrainableWarning,
    TreeMismatchError,
    listed,
    near,
)
from .._random.keys import check_key
from .._tree.differences import differences
from .._tree.selection import Selector, matching, partition
from .._tree.text import bytes_text, table
from .._tree.values import is_array, jax_value, value_bytes
from .._tree.vartree import VarTree, as_tree, from_flat
from .._variables.closures import signature
from .._variables.collections import GraphKeys, in_scope
from .._variables.initialize import initialize
from .._variables.placement import put
from .._variables.spec import VariableSpec
from ..sharding import AnyMesh, Rules, mesh_for_init, named_shardings
from . import plan as _plan


class Declaration(Mapping[str, VariableSpec]):
    """What a model declared: an ordered mapping from name to `VariableSpec`.

    Prints as a table, with the number of times that each variable was requested: sharing
    across a transform's boundary can't be detected, but the table shows it.
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

    def __or__(self, other: object) -> "Declaration":
        """One declaration of a program of several functions, such as act and train.

        >>> def encode(scope, x):
        ...     return x @ scope.get_variable("w", (2, 3))
        >>> def decode(scope, h):
        ...     return h @ scope.get_variable("w", (2, 3)).T + scope.get_variable("b", (2,))
        >>> declared = js.declare(encode)(jnp.ones((1, 2))) | js.declare(decode)(jnp.ones((1, 3)))
        >>> list(declared)
        ['w', 'b']

        Args:
            other: The declaration of another function. What both declare must be the same.

        Returns:
            A declaration of all variables: this one's, then the others, each in order of creation.

        Raises:
            TreeMismatchError: If names are declared differently; all are listed, with each
                attribute that differs. Functions are the same if their code and what it uses is.
        """
        if not isinstance(other, Declaration):
            return NotImplemented
        lines = [
            f"{name!r}: {difference}"
            for name, spec in self._specs.items()
            if name in other
            for difference in _spec_differences(spec, other[name])
        ]
        if lines:
            text = "\n".join(f"  {line}" for line in lines)
            raise TreeMismatchError(
                f"The two declarations differ in {len(lines)} "
                f"place{'s' * (len(lines) > 1)}:\n{text}\n"
                "Functions of one program declare a shared variable alike: request it by one "
                "function that both call, or under another scope in one of them, as "
                "js.declare(lambda scope, x: model(scope / 'target', x))(x)."
            )
        times = {n: self._times.get(n, 0) + other._times.get(n, 0) for n in {*self, *other}}
        specs = self._specs | {n: s for n, s in other._specs.items() if n not in self._specs}
        return Declaration(specs, {name: times[name] for name in specs})

    @property
    def trainable(self) -> tuple[str, ...]:
        """The names of the trainable variables; a selector."""
        return tuple(name for name, spec in self._specs.items() if spec.trainable)

    def abstract(self, mesh: AnyMesh | None = None, *, rules: Rules = ()) -> VarTree:
        """A tree of `jax.ShapeDtypeStruct`, such as `js.Saver.restore` takes as its target.

        Args:
            mesh: If there is one, the structs have shardings over it.
            rules: As for `shardings`.
        """
        shardings = self._laid_out(mesh, rules)
        return from_flat(
            {
                name: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=shardings.get(name))
                for name, s in self._specs.items()
            }
        )

    def shardings(self, mesh: AnyMesh, *, rules: Rules = ()) -> VarTree:
        """How each variable is laid out over a mesh: a tree of `jax.sharding.NamedSharding`.

        >>> def model(scope, x):
        ...     return x @ scope.get_variable("w", (8, 6))
        >>> mesh = jax.make_mesh((1,), ("model",))
        >>> rules = [("**/w", jax.sharding.PartitionSpec(None, "model"))]
        >>> js.declare(model)(jnp.ones((2, 8))).shardings(mesh, rules=rules)["w"].spec
        P(None, 'model')

        Args:
            mesh: A mesh, with or without devices.
            rules: Pairs of a selector and a `jax.sharding.PartitionSpec`, or a partitioner, or
                None. The first rule that picks a variable decides, before the model's
                code. A variable without a spec is replicated.

        Raises:
            SelectorError: If a rule's selector picks nothing.
            ShardingError: If specs don't fit the mesh or the shapes; all are listed.
        """
        return from_flat(named_shardings(self._specs, mesh, rules))

    def _laid_out(self, mesh: AnyMesh | None, rules: Rules) -> Mapping[str, NamedSharding]:
        """The shardings over a mesh; none without one."""
        if mesh is not None:
            return named_shardings(self._specs, mesh, rules)
        if rules:
            raise ShardingError(
                "`rules` lay variables out over a mesh, and there is no mesh. Pass "
                "mesh=jax.make_mesh((2, 4), ('data', 'model'))."
            )
        return {}

    def plan(
        self,
        mesh: AnyMesh | Mapping[str, int],
        rules: Rules = (),
        *,
        optimizer: _plan.Optimizer | None = None,
    ) -> _plan.Plan:
        """What a training step will hold on each device of a mesh. Nothing is allocated.

        >>> def model(scope, x):
        ...     return x @ scope.get_variable("w", (1024, 4096))
        >>> declared = js.declare(model)(jnp.ones((2, 1024)))
        >>> rules = [("**/w", jax.sharding.PartitionSpec("data", "model"))]
        >>> declared.plan({"data": 16, "model": 256}, rules).parameter_bytes
        4096

        Args:
            mesh: A mesh, or ``{axis: size}``; no devices are needed.
            rules: As for `shardings`.
            optimizer: If given, an Optax transformation whose state is counted.

        Returns:
            A `Plan`, which prints as a table: bytes per device of the parameters, their
            gradients, the optimizer's state and the other variables, and what stays whole.

        Raises:
            SelectorError, ShardingError: As `shardings`.
        """
        return _plan.plan(self._specs, mesh, rules, optimizer)

    def init(
        self,
        key: Array,
        *,
        given: Mapping[str, Any] | None = None,
        only: Selector | None = None,
        donate_given: bool = False,
        mesh: AnyMesh | None = None,
        rules: Rules = (),
    ) -> VarTree:
        """Initial values: of a whole model, of what a tree lacks, or of a selection.

        The value of a variable is ``initializer(k, shape, dtype)``, where ``k`` is the key of its
        name under the root key (`docs/design.md`, "Keys"). It depends on nothing else: the bits
        are the same alone, with others, in any order, and under jit.

        Args:
            key: The root key.
            given: Values to keep. Without ``only``, variables that are not given are
                initialized.
            only: A selector of declared names: exactly these are initialized, given or not
                (TF: ``variables_initializer([...])``); the result has these and ``given``.
            donate_given: Whether the result may hold the given arrays themselves. By default
                they are copied, so that the result can be donated to a jitted step, and ``given``
                stays valid.
            mesh: Lay the result out over this mesh; each device computes its own shard only.
                By default the mesh of `jax.set_mesh`, if there is one.
            rules: As for `shardings`.

        Returns:
            A tree in which no two variables share a buffer. No argument is changed.

        Raises:
            TreeMismatchError: If ``given`` has a variable that is not declared, or with another
                shape or dtype, or without a value; all such are listed.
            SelectorError: If ``only``, or a rule's selector, matches nothing.
            ShardingError: If specs don't fit the mesh or the shapes; all are listed.
            KeyArgumentError: If ``key`` is not one PRNG key.
        """
        key = check_key(key)
        kept = VarTree() if given is None else as_tree(given)
        self._check(kept, "`given`", [name for name in self._specs if name in kept])
        abstract = [name for name, v in kept.items() if isinstance(v, jax.ShapeDtypeStruct)]
        if abstract:
            raise TreeMismatchError(
                f"`given` has a ShapeDtypeStruct, which is not a value, at {listed(abstract)}. "
                "Leave out the variables to initialize."
            )
        if only is None:
            names = [name for name in self._specs if name not in kept]
        else:
            chosen = matching(self._specs, only, hint="Leave only= out for all of them.")
            names = [name for name in self._specs if name in chosen]
        shardings = self._laid_out(mesh_for_init(mesh), rules)
        fresh = initialize(self._specs, names, key, kept, shardings)
        stay = {name: value for name, value in kept.items() if name not in fresh}
        if not donate_given:
            stay = {name: _copy(value) for name, value in stay.items()}
        stay = {name: put(value, shardings.get(name)) for name, value in stay.items()}
        return VarTree({**stay, **fresh})

    def split(self, tree: Mapping[str, Any]) -> tuple[VarTree, VarTree]:
        """The trainable variables of a tree, and the rest: ``params, state``.

        Variables are trainable unless they were created with ``trainable=False``, as in TF1, and
        so are integers and bools. `jax.grad` takes no derivative with respect to these.

        Raises:
            SelectorError: If the tree has variables that are not declared.

        Warns:
            TrainableWarning: If a trainable variable of the tree is neither floating nor complex;
                all such are listed.
        """
        tree = as_tree(tree)
        self._check_known(tree, "trainable flag")
        params, state = partition(tree, self.trainable, allow_empty=True)
        without = {n: self._specs[n].dtype for n in params if not _has_gradient(self._specs[n])}
        if without:
            warnings.warn(_without_gradient(without), TrainableWarning, stacklevel=2)
        return params, state

    def _check_known(self, tree: VarTree, what: str) -> None:
        unknown = [name for name in tree if name not in self._specs]
        if unknown:
            raise SelectorError(
                f"The tree has variables that are not declared, so their {what} is unknown: "
                f"{listed(unknown)} ({near(unknown[0], self._specs)}). js.drop it first."
            )

    def missing(self, tree: Mapping[str, Any]) -> tuple[str, ...]:
        """The declared names that a tree lacks. TF: ``report_uninitialized_variables``."""
        there = as_tree(tree)
        return tuple(name for name in self._specs if name not in there)

    def check(self, tree: Mapping[str, Any]) -> None:
        """Raise unless a tree has exactly the declared names, shapes and dtypes.

        An integer ``global_step`` that isn't declared may be there, as in TF1's checkpoints: it
        belongs to the training and not to the model.

        Raises:
            TreeMismatchError: With every difference.
        """
        tree = as_tree(tree)
        step = tree.get(GraphKeys.GLOBAL_STEP)
        if GraphKeys.GLOBAL_STEP not in self._specs and _is_step(step):
            tree = from_flat({n: v for n, v in tree.items() if n != GraphKeys.GLOBAL_STEP})
        self._check(tree, "the tree", self._specs)

    def _check(self, tree: VarTree, what: str, names: Iterable[str]) -> None:
        expected = {name: self._specs[name] for name in names}
        lines = differences(expected, tree, "declared", f"in {what}")
        if lines:
            raise TreeMismatchError(
                f"{what[0].upper()}{what[1:]} differs from the declaration in {len(lines)} "
                f"place{'s' * (len(lines) > 1)}:\n"
                + "\n".join(f"  {line}" for line in lines)
                + "\nDeclare the model with the settings the tree was made with, or js.select, "
                "js.drop or js.rename the tree's variables."
            )

    def collection(self, key: str, scope: str | re.Pattern[str] | None = None) -> tuple[str, ...]:
        """The names of the variables in a collection, in order of creation; a selector.

        >>> def model(scope, x):
        ...     scope.get_variable("w", (2,), collections=["variables", "wanted"])
        ...     (scope / "head").get_variable("w", (2,))
        >>> js.declare(model)(None).collection("wanted")
        ('w',)

        Args:
            key: One of `js.GraphKeys`, or any other string.
            scope: Only those in this scope: ``a`` and ``a/...``, not ``a_1/...``. Or a compiled
                regular expression, matched from the beginning.

        Returns:
            Names; none if no variable is in the collection.

        Source: ``tf.get_collection``. Difference: a string is a scope, not an expression.
        """
        trained = key == GraphKeys.TRAINABLE_VARIABLES
        names = (
            name
            for name, spec in self._specs.items()
            if key in spec.collections or (trained and spec.trainable)
        )
        return in_scope(names, scope)

    def trainable_variables(self, scope: str | re.Pattern[str] | None = None) -> tuple[str, ...]:
        """The names in the collection of trainable variables; see `collection`."""
        return self.collection(GraphKeys.TRAINABLE_VARIABLES, scope)

    def regularization_losses(
        self, tree: Mapping[str, Any], scope: str | re.Pattern[str] | None = None
    ) -> dict[str, Array]:
        """The regularizers' values, by the names of their variables, in order of creation.

        Args:
            tree: Has at least the variables of the scope that have a regularizer.
            scope: As for `collection`.

        Returns:
            Scalars; none where a regularizer gives None. Those of a stack are summed.

        Raises:
            MissingVariableError: If the tree lacks a variable that has a regularizer.
            RegularizerError: If a regularizer gives no scalar.

        Source: ``tf.losses.get_regularization_losses``.
        """
        tree = as_tree(tree)
        regularized = (name for name, spec in self._specs.items() if spec.regularizer is not None)
        names = in_scope(regularized, scope)
        losses = {name: _regularization_loss(name, self._specs[name], tree[name]) for name in names}
        return {name: loss for name, loss in losses.items() if loss is not None}

    def regularization_loss(
        self, tree: Mapping[str, Any], scope: str | re.Pattern[str] | None = None
    ) -> Array:
        """The sum of `regularization_losses`; 0 if there are none.

        Returns:
            A scalar, float32 (float64 if a term is).

        Source: ``tf.losses.get_regularization_loss``.
        """
        terms = self.regularization_losses(tree, scope).values()
        wide = any(term.dtype == jnp.float64 for term in terms)
        dtype = jnp.float64 if wide else jnp.float32
        return sum((term.astype(dtype) for term in terms), start=jnp.zeros((), dtype))

    def apply_constraints(self, tree: Mapping[str, Any]) -> VarTree:
        """A tree in which each variable that has a constraint is ``constraint(value)``.

        Call it after the optimizer's update: ``params = declared.apply_constraints(params)``.

        Args:
            tree: Values of declared variables, of all or of some.

        Returns:
            A new tree of the same names; what has no constraint keeps its value.

        Raises:
            SelectorError: If the tree has variables that are not declared.
            ConstraintError: If a constraint changes a value's shape or dtype.

        Source: ``constraint=`` of ``tf.get_variable``, which TF1's optimizers apply after each
            step. Difference: your training step calls it.
        """
        tree = as_tree(tree)
        self._check_known(tree, "constraint")
        changed = {
            name: _constrained(name, spec, tree[name])
            for name, spec in self._specs.items()
            if name in tree
        }
        return tree | changed

    def __repr__(self) -> str:
        return _declaration_text(self._specs, self._times)


def _has_gradient(spec: VariableSpec) -> bool:
    """Whether a declaration's variable has a dtype with respect to which JAX differentiates."""
    return bool(jnp.issubdtype(spec.dtype, jnp.inexact))


def _without_gradient(dtypes: Mapping[str, Any]) -> str:
    found = ", ".join(f"{name!r} ({dtype})" for name, dtype in dtypes.items())
    return (
        f"{found}: trainable, as variables are by default, so among the parameters; but jax.grad "
        "takes derivatives of floating and complex variables only, and fails. Create such a "
        "variable with scope.get_variable(name, shape, dtype, trainable=False), and it is part "
        "of the state. (With jax.grad(loss, allow_int=True) it can stay.)"
    )


def _is_step(value: object) -> bool:
    """Whether a tree's value can be a ``global_step``, which its declaration needn't have."""
    return is_array(value) and value.shape == () and str(value.dtype) in ("int32", "int64")


def _copy(value: object) -> Array:
    return value.copy() if isinstance(value, jax.Array) else jnp.array(value, copy=True)


# Functions of a spec, for one slice of a stack, applied to values. A variable in no stack is a
# slice.


def _regularization_loss(name: str, spec: VariableSpec, value: object) -> Array | None:
    """What a declaration's regularizer adds to the losses, summed over slices; None if nothing.

    Raises:
        RegularizerError: If it gives no scalar.
    """
    if spec.regularizer is None:
        return None
    term = _on_slices(spec.regularizer, spec)(jax_value(value))
    if term is None:
        return None
    if np.shape(term)[len(spec.stack) :]:
        raise RegularizerError(
            f"The regularizer of {name!r} gave an array of shape "
            f"{np.shape(term)[len(spec.stack) :]}; it must give a scalar, such as the sum."
        )
    return jnp.sum(jnp.asarray(term))


def _constrained(name: str, spec: VariableSpec, value: object) -> object:
    """A value after the constraint that a declaration has for its variable, if there is one.

    Raises:
        ConstraintError: If it has another shape or dtype.
    """
    if spec.constraint is None:
        return value
    try:
        result = jnp.asarray(_on_slices(spec.constraint, spec)(jax_value(value)))
    except Exception as error:
        error.add_note(f"(While the constraint of variable {name!r} was applied.)")
        raise
    if result.shape != spec.shape or result.dtype != spec.dtype:
        raise ConstraintError(
            f"The constraint of {name!r} made {result.dtype}{list(result.shape)} of "
            f"{spec.dtype}{list(spec.shape)}. A constraint is f(value) -> value of the same shape "
            "and dtype."
        )
    return result


def _on_slices(function: Callable[[Any], Any], spec: VariableSpec) -> Callable[[Any], Any]:
    """A declared regularizer or constraint, applied to all slices if the variable is a stack."""
    for _ in spec.stack:
        function = jax.vmap(function)
    return function


def _spec_differences(spec: VariableSpec, other: VariableSpec) -> Iterator[str]:
    """In comparing a declaration with another: a line for each attribute that differs."""
    for field in fields(VariableSpec):
        mine, theirs = getattr(spec, field.name), getattr(other, field.name)
        if signature(mine) != signature(theirs):
            yield f"{field.name} {mine} in the first, {theirs} in the second"


# Printing.


def _declaration_text(specs: Mapping[str, VariableSpec], times: Mapping[str, int]) -> str:
    """A declaration as text: a table of its variables, and above it the totals.

    Args:
        specs: What is declared.
        times: How often each variable was requested.
    """
    if not specs:
        return "Declaration of no variables"
    sizes = {name: int(np.prod(s.shape, dtype=object)) for name, s in specs.items()}
    sizes_bytes = {name: value_bytes(spec) for name, spec in specs.items()}
    columns: dict[str, Callable[[str, VariableSpec], str]] = {
        "name": lambda name, spec: name,
        "shape": lambda name, spec: str(spec.shape),
        "dtype": lambda name, spec: str(spec.dtype),
        "trainable": lambda name, spec: "yes" if spec.trainable else "no",
        "parameters": lambda name, spec: f"{sizes[name]:,}",
        "bytes": lambda name, spec: bytes_text(sizes_bytes[name]),
        "uses": lambda name, spec: str(times[name]),
    }
    if any(spec.stack for spec in specs.values()):
        columns["stack"] = lambda name, spec: _stack_text(spec)
    if any(spec.sharding is not None for spec in specs.values()):
        columns["sharding"] = lambda name, spec: "" if spec.sharding is None else str(spec.sharding)
    if any(spec.collections != (GraphKeys.GLOBAL_VARIABLES,) for spec in specs.values()):
        columns["collections"] = lambda name, spec: ", ".join(spec.collections)
    rows = [[cell(*item) for cell in columns.values()] for item in specs.items()]
    trained = sum(sizes[name] for name, spec in specs.items() if spec.trainable)
    total = (
        f"{len(specs):,} variables, {sum(sizes.values()):,} parameters ({trained:,} trainable), "
        f"{bytes_text(sum(sizes_bytes.values()))}"
    )
    body = table(tuple(columns), rows, right=("parameters", "bytes", "uses"))
    return f"Declaration of {total}\n{body}"


def _stack_text(spec: VariableSpec) -> str:
    """The stacks of a declared variable as text: ``layers[48], layers/heads[8]``."""
    return ", ".join(f"{scope}[{length}]" for scope, length in spec.stack)
