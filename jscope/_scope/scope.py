"""Scope: a cursor into a tree of variables, given to a model as its first argument.

A scope is **bound** to values, or **declaring**. Bound, it looks variables up and never
creates any. Declaring, it records requests and returns abstract values. The model is the same
for both.

A scope is a JAX pytree, so the user's own `jax.jit`, `jax.vmap`, `jax.checkpoint`,
`jax.lax.scan`, ... take it as an argument. Rules that this relies on:

1. **The static part is the context**, `Bound` or `Declaring`; each file documents its fields.
   Nothing in a static part may hold an array, which would go stale.
2. **The leaves are the variables' values**, then a name hash and random keys if there are any.
3. **The usage tracker is not part of the pytree.** It is shared along ``/`` and dropped
   at a transform's boundary (`_scope.usage`); only the request for records crosses it.
4. **Unflattening stores its arguments unchecked**: JAX passes sentinels. Flattening computes
   nothing.
"""

import inspect
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Self

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike, DTypeLike

from .._errors import (
    GetterError,
    NameCollisionError,
    RandomStreamError,
    ScopeError,
    ScopeWarning,
    ShapeMismatchError,
    listed,
)
from .._names.names import check, checked, join
from .._names.tf1 import no_attribute_of
from .._names.unique import Openings
from .._ops import assign, scatter
from .._ops.assign import Value
from .._ops.scatter import Indices
from .._tree.values import NUMPY_TYPES, jax_value
from .._tree.vartree import VarTree, as_tree, from_flat
from .._variables.collections import GraphKeys
from .._variables.request import AUTO_REUSE, Reuse, Shape, VariableRequest, refused
from .._variables.spec import Constraint, Partitioner
from ..initializers import Initializer
from ..regularizers import Regularizer
from .bound import Bound, bound_root, from_bytes
from .call_sites import call_site, names_in_caller, site_text, users_line
from .declaring import Declaring
from .defaults import read
from .getters import Creator, CustomGetter, check_getter, composed_in
from .ledgers import Ledger, RecordsLedger, out_of_reach
from .name_stack import clock, enter_with, leave_with
from .resolve import resolve
from .transforms import in_transform, transform_around, transform_or_thread
from .usage import Usage

P = ParamSpec("P")


def _of_local_variables(get_variable: Callable[P, Array]) -> Callable[P, Array]:
    """The method `Scope.get_local_variable`, made of `Scope.get_variable` and its arguments."""
    signature = inspect.signature(get_variable)

    def get_local_variable(*args: P.args, **kwargs: P.kwargs) -> Array:
        """`get_variable` of a variable that is not part of the model, such as a metric's counter.

        It is in the collection ``"local_variables"`` instead of ``"variables"``, and never
        trainable, also if ``trainable=True`` is passed. All arguments are those of `get_variable`.

        Source: ``tf.get_local_variable``.
        """
        call = signature.bind(*args, **kwargs)
        keys = call.arguments.get("collections")  # a value that is not a list raises below
        if keys is None or isinstance(keys, list | tuple | set | frozenset):
            keys = (*(keys or ()), GraphKeys.LOCAL_VARIABLES)
        call.arguments |= {"trainable": False, "collections": keys}
        return get_variable(*call.args, **call.kwargs)

    parameters = [
        each.replace(default=False) if each.name == "trainable" else each
        for each in signature.parameters.values()
    ]
    get_local_variable.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters
    )
    get_local_variable.__qualname__ = "Scope.get_local_variable"
    return get_local_variable


class Scope:
    """A path into a tree of variables; see `js.declare` for how a model is declared.

    >>> tree = VarTree({"dense/w": jnp.ones((2, 3)), "dense/b": jnp.zeros(3)})
    >>> scope = Scope(tree) / "dense"
    >>> scope.get_variable("w", (2, 3)).shape
    (2, 3)

    Args:
        tree: A tree of variables, or another mapping of names to values.
        more: Further trees, such as the state beside the parameters; all names must differ.
        rngs: The root keys of random streams: a mapping such as ``{"dropout": key}``, or one
            key for all streams.

    **Exported functions.** `jax.export` writes functions that take scopes, except scopes with
    custom getters. To read one in another process, use ``js.Scope`` there once before
    ``jax.export.deserialize``, as with `VarTree`.

    Raises:
        NameCollisionError: If two trees share a name; all such are listed.
        TypeError: If one is not a mapping.
        KeyArgumentError: If ``rngs`` holds something else than PRNG keys.
    """

    __slots__ = ("_context", "_leaves", "_opened", "_since", "_usage")

    _context: Bound | Declaring
    _leaves: tuple[Any, ...]
    _usage: Usage | None
    _since: int  # when it was rebuilt, where there is no usage tracker yet
    _opened: Openings | None

    def __init__(
        self,
        tree: Mapping[str, Any],
        /,
        *more: Mapping[str, Any],
        rngs: Array | Mapping[str, Array] | None = None,
    ):
        self._context, self._leaves = bound_root(_merge((tree, *more)), rngs)
        self._usage = Usage()
        self._opened = None

    @property
    def name(self) -> str:
        """The path from the root scope, or from the last transform's boundary; ``""`` there.

        The same while declaring as while applying. Behind a boundary the scope's path
        from the root is unknown: JAX traces a body once for all scopes of equal structure. A scope
        that `jax.tree.map` or another pytree function rebuilt has passed a boundary, too.
        """
        usage = self._usage
        if usage is None:
            return ""
        boundary = usage.boundary
        return self._path[len(boundary) + 1 :] if boundary else self._path

    @property
    def _path(self) -> str:
        """The whole path, for keys within a run and for error texts; no result may depend on it.

        Behind a transform's boundary it is that of the scope that was traced first.
        """
        return self._context.path

    # The defaults of `variable_scope`. Behind a transform's boundary a bound scope has lost those
    # that are creation-only: initializer, regularizer, partitioner and constraint are None there.

    @property
    def reuse(self) -> Reuse:
        """False, True or `AUTO_REUSE`."""
        return self._context.reuse

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of variables that name none."""
        named = self._context.defaults.dtype
        return np.dtype(np.float32) if named is None else named

    @property
    def initializer(self) -> Initializer | ArrayLike | None:
        """The default initializer, or None."""
        return self._context.defaults.initializer

    @property
    def regularizer(self) -> Regularizer | None:
        """The default regularizer, or None."""
        return self._context.defaults.regularizer

    @property
    def partitioner(self) -> Partitioner | None:
        """The default partitioner, or None."""
        return self._context.defaults.partitioner

    @property
    def constraint(self) -> Constraint | None:
        """The constraint of variables requested in this scope itself, or None."""
        return self._context.defaults.constraint

    @property
    def custom_getter(self) -> CustomGetter | None:
        """The custom getter, or None; of several, a function that composes them."""
        return self._context.defaults.custom_getter

    def _at(
        self,
        context: Bound | Declaring,
        leaves: tuple[Any, ...],
        usage: Usage | None,
        opened: Openings | None = None,
    ) -> Self:
        """Another scope."""
        other = object.__new__(type(self))
        other._context = context
        other._leaves = leaves
        other._usage = usage
        other._opened = opened
        if usage is None:
            other._since = clock()
        return other

    def _begun(self) -> Usage:
        if self._usage is None:
            self._usage = Usage(self._path, at_boundary=True, began=self._since)
        return self._usage

    def _openings(self) -> Openings:
        if self._opened is None:
            self._opened = Openings(self._path)
        return self._opened

    def _current_leaves(self) -> tuple[Any, ...]:
        """The leaves, with what was assigned to variables."""
        updates = None if self._usage is None else self._usage.updates
        if updates is None or not updates.entries:
            return self._leaves
        names, path, written = self._context.names(), self._path, updates.entries
        current = (
            written.get(join(path, name), leaf)
            for name, leaf in zip(names, self._leaves, strict=False)
        )
        return (*current, *self._leaves[len(names) :])

    def _written(self, name: str, value: Array) -> Array:
        """What was assigned to a variable, else its value."""
        updates = None if self._usage is None else self._usage.updates
        if updates is None or not updates.entries:
            return value
        written: Array = updates.entries.get(join(self._path, name), value)
        return written

    # Other scopes.

    def __truediv__(self, name: str) -> Self:
        """The scope ``name`` below this one; ``scope / "a/b"`` is ``scope / "a" / "b"``."""
        if not isinstance(name, str):
            raise TypeError(f"scope / name takes a string, got {name!r} of {type(name).__name__}.")
        context, leaves = self._context.child(check(name), self._leaves)
        return self._at(context, leaves, self._begun())

    def variable_scope(
        self,
        name_or_scope: "str | Self | None" = None,
        default_name: str | None = None,
        values: None = None,
        initializer: Initializer | ArrayLike | None = None,
        regularizer: Regularizer | None = None,
        caching_device: None = None,
        partitioner: Partitioner | None = None,
        custom_getter: CustomGetter | None = None,
        reuse: Reuse | None = None,
        dtype: DTypeLike | None = None,
        use_resource: None = None,
        constraint: Constraint | None = None,
        auxiliary_name_scope: None = None,
    ) -> Self:
        """A scope below this one, or another scope, with defaults for what is in it.

        Every argument that is None is inherited: from this scope if a name is given, from that
        scope if one is given. The result is its own context manager: ``with
        scope.variable_scope("a") as a:`` names the operations of the block after it, in profiles
        (`js.named`), and does nothing else.

        >>> def model(scope, x):
        ...     first = scope.variable_scope(None, default_name="conv")  # "conv"
        ...     second = scope.variable_scope(None, default_name="conv")  # "conv_1"
        ...     x = block(second, block(first, x))
        ...     return block(scope.variable_scope(first, reuse=True), x)  # "conv"

        Args:
            name_or_scope: A name, relative to this scope; or a scope, which is entered where it
                is: its name, reuse and defaults are its own, not this scope's.
            default_name: The name if ``name_or_scope`` is None, made unique: ``d``, ``d_1``, ...
                TF's rules for counting: `_names.unique`.
            initializer: Default for `get_variable`.
            regularizer: Default for `get_variable`; `js.no_regularizer` stops inheritance.
            partitioner: ``f(name, shape, dtype) -> PartitionSpec``, called for each variable
                that is created without ``sharding``; see `js.sharding`.
            custom_getter: ``f(getter, name, **arguments)``, called in place of each
                `get_variable`, at declaration and at application. ``getter(name, **arguments)``
                gives the variable, or what the getter of a scope around makes of it. The name
                is the whole one, from the root (if the getter is given in the body of a
                transform, from its boundary), so that JAX traces a body once for each path;
                `js.by_value` marks getters that need no names. The arguments are those of
                `get_variable`, and ``reuse``. See `docs/custom_getters.md`.
            reuse: True: variables must exist; `AUTO_REUSE`: get or create. Inherited, it
                can't be undone: False means the same as None.
            dtype: Default for `get_variable`.
            constraint: Default for `get_variable` in this scope itself; it is not inherited.
            values: With ``caching_device``, ``use_resource`` and ``auxiliary_name_scope``:
                TF1's; an error names what replaces them.

        Raises:
            TypeError: If neither a name nor a scope is given.
            ScopeError: If the scope is another tree's or another declaration's; if ``reuse`` is
                given with a default name alone; or if a default name is requested in a
                transform.
            VariableNameError: If the name isn't legal.
            ValueError, DtypeMismatchError, ConstraintError, GetterError: If a default is invalid.

        Source: ``tf.variable_scope``, its arguments in its order. Differences: a scope is a
            value, and ``with`` enters it for names of operations alone; names can't be empty; a
            partitioner gives how a variable is sharded over a mesh, and the variable stays one
            array.
        """
        if not (values is caching_device is use_resource is auxiliary_name_scope is None):
            raise refused(
                f"variable_scope({name_or_scope!r})",
                values=values,
                caching_device=caching_device,
                use_resource=use_resource,
                auxiliary_name_scope=auxiliary_name_scope,
            )
        if isinstance(name_or_scope, Scope):
            below = self._jump(name_or_scope)
        elif name_or_scope is None:
            below = self._unique(default_name, reuse)
        elif isinstance(name_or_scope, str):
            below = self / name_or_scope
            below._opened = self._openings().open(name_or_scope)
        else:
            raise TypeError(
                "variable_scope: name_or_scope must be a string or a Scope, got "
                f"{name_or_scope!r} of {type(name_or_scope).__name__}."
            )
        changes = read(
            below.name,
            reuse=reuse,
            initializer=initializer,
            regularizer=regularizer,
            partitioner=partitioner,
            custom_getter=custom_getter,
            dtype=dtype,
            constraint=constraint,
        )
        below._context = below._context.opened(changes, below.name)
        return below

    def _jump(self, scope: Self) -> Self:
        """Another scope, entered from here."""
        foreign = self._context.is_foreign(scope._context)
        if foreign is None and scope._begun().is_of_other_root(self._begun()):
            foreign = "is another tree's, or of another js.Scope(tree)"
        if foreign is not None:
            raise ScopeError(
                f"The scope {scope._path!r} can't be entered from {self._path!r}: it {foreign}. "
                "Enter scopes that descend from the one that the model was given."
            )
        opened = self._openings().enter(scope._path)
        context = scope._context.without_constraint().with_arguments(self._context.arguments)
        return self._at(context, scope._leaves, scope._begun(), opened)

    def _unique(self, default_name: str | None, reuse: Reuse | None) -> Self:
        if default_name is None:
            raise TypeError("If default_name is None then name_or_scope is required.")
        if reuse:
            text = "js.AUTO_REUSE" if reuse is AUTO_REUSE else repr(reuse)
            raise ScopeError(
                f"reuse={text} cannot be used without a name_or_scope: the default name "
                f"{default_name!r} is made unique, so there is nothing to share. Write "
                f"scope.variable_scope({default_name!r}, reuse={text})."
            )
        check(default_name)
        if not self._begun().runs_once():
            raise ScopeError(
                f"The default name {default_name!r} was requested in the scope {self._path!r} "
                f"{transform_or_thread()}. JAX may run a body once for two calls, which would "
                "then share what should get a name of its own. Write scope.variable_scope("
                f"{default_name!r}), or enter the scope outside and pass it to the transform."
            )
        name, opened = self._openings().open_unique(default_name)
        below = self / name
        below._opened = opened
        return below

    def reuse_variables(self) -> Self:
        """This scope with ``reuse=True``: ``scope = scope.reuse_variables()``.

        Source: ``tf.VariableScope.reuse_variables``, which changes the scope itself.
        """
        context = self._context.with_defaults({"reuse": True}, self.name)
        return self._at(context, self._leaves, self._begun(), self._openings())

    def variable_creator_scope(self, variable_creator: Creator) -> Self:
        """This scope, in which your function makes new variables.

        Creators run only where a model is declared, so they can change the initial value and
        what is declared of a variable, but not the result of a look-up; custom getters can.

        >>> def frozen(next_creator, **arguments):
        ...     return next_creator(**arguments | {"trainable": False})
        >>> def model(scope, x):
        ...     return block(scope.variable_creator_scope(frozen) / "backbone", x)

        Args:
            variable_creator: ``f(next_creator, **arguments) -> VariableSpec``. The arguments are
                ``name``, the whole one, ``shape``, ``dtype``, ``initializer``, ``regularizer``,
                ``trainable``, ``collections``, ``partitioner``, ``constraint`` and ``sharding``,
                the scope's defaults included. ``next_creator(**arguments)`` is that of the scope
                around, or makes the variable. It may not change what `get_variable` specified.

        Raises:
            GetterError: If it isn't callable; and when a variable is created, if it gives no
                `VariableSpec`, or requests another name.

        Source: ``tf.variable_creator_scope``. Differences: the value begins with
            ``initializer`` and ``shape``, where TF has ``initial_value``; a spec is returned,
            where TF may return another variable.
        """
        if not callable(variable_creator):
            raise GetterError(
                f"Passed a variable_creator which is not callable: {variable_creator!r}. It is a "
                "function f(next_creator, **arguments) that returns next_creator(**arguments)."
            )
        context = self._context.with_defaults({"creators": (variable_creator,)}, self.name)
        return self._at(context, self._leaves, self._begun(), self._openings())

    def shared(self, name: str) -> Self:
        """The scope ``name`` below this one, in which a second request shares the variable.

        Short for ``variable_scope(name, reuse=AUTO_REUSE)``.
        """
        return self.variable_scope(name, reuse=AUTO_REUSE)

    def stacked(self, name: str, length: int) -> Self:
        """The scope ``name`` as a stack: ``length`` equal layers, sliced by `scan` or `vmap`.

        Its variables have a leading axis of this length. A transform over it gives its body
        one slice, a scope like any other:

        >>> def tower(scope, x):
        ...     layers = scope.stacked("layers", 12)
        ...     return jax.lax.scan(lambda x, layer: (block(layer, x), None), x, layers)[0]

        Slice ``i`` of ``layers/w`` has the initial value and the random draws that ``layers/i/w``
        has in a loop over ``scope / f"layers/{i}"``, to the last bit; `js.stack` and `js.unstack`
        convert one tree into the other. Stacks nest to any depth.

        Args:
            name: Relative to this scope.
            length: The number of slices, at least 1.

        Raises:
            ShapeMismatchError: If the tree's variables below ``name`` don't have this many
                slices; all such are listed.
        """
        try:
            length = operator.index(length)
        except TypeError:
            raise TypeError(
                f"The length of the stack {name!r} must be an int when the model is traced, got "
                f"{length!r}."
            ) from None
        if length < 1:
            raise ShapeMismatchError(f"The stack {name!r} needs at least one slice, got {length}.")
        context, leaves = self._context.stacked(check(name), length, self._leaves)
        return self._at(context, leaves, self._begun())

    def __enter__(self) -> Self:
        """Name the operations of the block after this scope, for profiles: see `js.named`."""
        is_unused = self._context.is_unused
        enter_with(self._begun().base, self.name)
        if self._context.creates:
            site, names = None, frozenset[str]()
            if is_unused and self._openings().is_by_name:
                site = users_line()
                names = names if site is None else names_in_caller(self._is_opened_from)
            self._context.enter(site, names)
        return self

    def __exit__(self, kind: object = None, error: object = None, trace: object = None) -> None:
        warning = None
        if self._context.creates:
            names = names_in_caller(lambda value: value is self)
            warning = self._context.leave(names, failed=kind is not None)
        leave_with(self._begun().base, self.name)
        if warning is not None:
            warnings.warn(warning, ScopeWarning, stacklevel=2)

    def _is_opened_from(self, value: object) -> bool:
        return isinstance(value, Scope) and self._context.is_from(value._context)

    # Variables.

    def get_variable(
        self,
        name: str,
        shape: Shape = None,
        dtype: DTypeLike | None = None,
        initializer: Initializer | ArrayLike | None = None,
        regularizer: Regularizer | None = None,
        trainable: bool | None = None,
        collections: Iterable[str] | None = None,
        caching_device: None = None,
        partitioner: Partitioner | None = None,
        validate_shape: bool = True,
        use_resource: None = None,
        custom_getter: CustomGetter | None = None,
        constraint: Constraint | None = None,
        synchronization: None = None,
        aggregation: None = None,
        *,
        sharding: PartitionSpec | None = None,
    ) -> Array:
        """The value of a variable; while declaring, the variable is created.

        Args:
            name: Relative to this scope; ``a/b`` is ``b`` in the scope ``a``.
            shape: The variable's shape; left out if ``initializer`` is a value. While
                applying a model, or sharing, None fits any shape, and a None in it any dimension.
            dtype: The variable's dtype. Default: the value's if ``initializer`` is one, else the
                scope's, or float32. While applying a model, or sharing, a dtype that is
                not given isn't checked.
            initializer: ``f(key, shape, dtype) -> array``; or the initial value itself, or a
                function of no arguments that gives it. Default: the scope's, or Glorot uniform
                for floats and zeros for integers and bools.
            regularizer: ``f(value) -> scalar`` for `Declaration.regularization_loss`.
                Default: the scope's.
            trainable: Whether an optimizer should update it. Default: True, as in TF1, for any
                dtype: pass False for a counter.
            collections: The keys under which `Declaration.collection` finds it. Default:
                ``["variables"]``. A trainable variable is in ``"trainable_variables"`` too.
            partitioner: ``f(name, shape, dtype) -> PartitionSpec``, called if ``sharding`` is not
                given. Default: the scope's.
            validate_shape: Whether the shape is compared with that of a variable that exists.
            custom_getter: Stands between this request and its result, in place of the scope's;
                see `variable_scope`. It gets `Scope.name` and ``name`` in one: the name relative
                to the last transform's boundary.
            constraint: ``f(value) -> value`` for `Declaration.apply_constraints`. Default: that
                of this scope itself.
            caching_device: With ``use_resource``, ``synchronization`` and ``aggregation``: TF1's;
                an error names what replaces them.
            sharding: How `Declaration.init` shards it over a mesh. Not TF1's.

        Returns:
            The value, as JAX's array if the tree holds NumPy's; an abstract one while declaring;
            or what a custom getter makes of it.

        Raises:
            MissingVariableError: If it doesn't exist: in a bound scope, or with ``reuse=True``.
            VariableExistsError: If it was requested already, and sharing was not requested.
            ShapeMismatchError: If it has another shape.
            DtypeMismatchError: If it has another dtype than was named.
            InitializerError: If the initial value doesn't fit.
            RegularizerError: If the regularizer isn't callable.
            ConstraintError: If the constraint isn't callable.
            CollectionError: If the collections aren't a list of strings.
            GetterError: If the custom getter isn't callable.
            ScopeError: If this scope is a stack that is not sliced.

        Source: ``tf.get_variable``, its arguments in its order. Differences: a shared
            variable's dtype is checked only if one is named; a constant initial value of another
            shape is an error when sharing; a partitioner gives how a variable is sharded over a
            mesh, and it stays one array.
        """
        if not (caching_device is use_resource is synchronization is aggregation is None):
            raise refused(
                f"get_variable({name!r})",
                caching_device=caching_device,
                use_resource=use_resource,
                synchronization=synchronization,
                aggregation=aggregation,
            )
        request = VariableRequest(
            checked(name) if type(name) is str else check(name),
            shape,
            dtype,
            initializer,
            regularizer,
            trainable is None or trainable,
            collections,
            partitioner,
            validate_shape,
            constraint,
            sharding,
        )
        if custom_getter is not None:
            return self._through((check_getter(custom_getter),), self.name, request)
        if self._context.getters:
            return self._through(self._context.getters, self._context.getter_path, request)
        return self._found(request)

    get_local_variable = _of_local_variables(get_variable)

    def _found(self, request: VariableRequest) -> Array:
        usage = self._usage or self._begun()
        value = resolve(self._context, self._leaves, request, usage)
        if usage.updates is not None:
            value = self._written(request.name, value)
        # Inlined, since every look-up passes here: a call would cost more than the check.
        return jax_value(value) if isinstance(value, NUMPY_TYPES) else value

    def _through(
        self, getters: tuple[CustomGetter, ...], path: str, request: VariableRequest
    ) -> Array:
        """What custom getters make of a request; they know this scope by ``path``."""
        filled = self._context.defaults.fill(request)
        getter = composed_in(path, getters, self._true_getter)
        got: Array = getter(name=request.name, **filled.for_getters(self._context.reuse))
        return got

    def _true_getter(
        self,
        name: str,
        shape: Shape = None,
        dtype: DTypeLike | None = None,
        initializer: Initializer | ArrayLike | None = None,
        regularizer: Regularizer | None = None,
        reuse: Reuse | None = None,
        trainable: bool | None = None,
        collections: Iterable[str] | None = None,
        caching_device: None = None,
        partitioner: Partitioner | None = None,
        validate_shape: bool = True,
        use_resource: None = None,
        constraint: Constraint | None = None,
        synchronization: None = None,
        aggregation: None = None,
        *,
        sharding: PartitionSpec | None = None,
    ) -> Array:
        """The innermost getter: a variable of this scope, without the scope's defaults."""
        if not (caching_device is use_resource is synchronization is aggregation is None):
            raise refused(
                f"getter({name!r})",
                caching_device=caching_device,
                use_resource=use_resource,
                synchronization=synchronization,
                aggregation=aggregation,
            )
        request = VariableRequest(
            check(name),
            shape,
            dtype,
            initializer,
            regularizer,
            trainable is None or trainable,
            collections,
            partitioner,
            validate_shape,
            constraint,
            sharding,
            reuse,
            is_filled=True,
        )
        return self._found(request)

    def __getitem__(self, name: str) -> Array:
        """The value of a variable that exists; never creates, and may be repeated."""
        self._context.check_sliced(self._leaves, f"Variable {name!r}")
        value = self._written(check(name), self._context.read(name, self._leaves))
        return jax_value(value) if isinstance(value, NUMPY_TYPES) else value

    def variables(self) -> tuple[str, ...]:
        """The names of the variables below this scope, relative to it.

        While declaring, those created so far, in order. In a bound scope, those of the tree, in
        its order.

        Source: ``tf.VariableScope.global_variables``; local ones are among them.
        """
        return self._context.variables()

    def trainable_variables(self) -> tuple[str, ...]:
        """Those of `variables` that are trainable, in order of creation.

        Raises:
            ScopeError: If a bound scope doesn't know: values don't record which of them are
                trainable. It knows this of variables requested through its root scope, so all below
                must have been. `Declaration.trainable_variables` always knows.

        Source: ``tf.VariableScope.trainable_variables``.
        """
        return self._context.trainable_variables(self._begun())

    def has(self, name: str) -> bool:
        """Whether the variable exists: in the tree, or, declaring, among those created so far."""
        return self._context.has(check(name))

    # Random keys.

    def rng(self, stream: str, name: str | None = None) -> Array:
        """A random key: the stream's root key, folded with this scope's path.

        The key is that of the name ``<scope>/rng:<stream>``, or ``<scope>/rng:<stream>/<name>``,
        under the stream's root key (`docs/design.md`, "Keys"). So it is the same under any
        transform, in a stack or an unrolled loop.

        >>> scope = js.Scope({}, rngs={"dropout": jax.random.key(0)}) / "layer"
        >>> keep = jax.random.bernoulli(scope.rng("dropout"), 0.9, (3,))

        Args:
            stream: Which stream, such as ``"dropout"``.
            name: Distinguishes several draws from one stream in one scope. In loops over time,
                draw from `fold` instead.

        Returns:
            A key of the root key's kind; while declaring, an abstract one.

        Raises:
            MissingStreamError: If the scope has no such stream.
            RandomStreamError: If this was drawn already in this scope and trace.
            ScopeError: If this scope is a stack that is not sliced.
        """
        check(stream)
        if name is not None:
            check(name)
        what = f"A key of the stream {stream!r}"
        self._context.check_sliced(self._leaves, what)
        key = self._context.draw(stream, name, self._leaves)
        site = call_site()
        earlier = self._begun().draw((self._path, stream, name), site)
        if earlier is not None:
            other = "another name=" if name else f"scope.rng({stream!r}, name='second')"
            raise RandomStreamError(
                f"{what} was drawn already in the scope {self._path!r}"
                f"{f' as {name!r}' if name else ''}, and would be the same key. Write {other} for "
                "another draw, or scope.fold(step) in a loop."
                f"\nFirst drawn at:\n{site_text(earlier)}\nDrawn again at:\n{site_text(site)}"
            )
        return key

    def fold(self, i: int | Array) -> Self:
        """This scope, with an integer folded into its random keys, such as a time step.

        Variables are the same. Traced integers fold too:

        >>> def step(x, t):
        ...     now = scope.fold(t)
        ...     return x * jax.random.bernoulli(now.rng("dropout"), 0.9, x.shape), None
        >>> scope = js.Scope({}, rngs=jax.random.key(0))
        >>> x, _ = jax.lax.scan(step, jnp.ones(3), jnp.arange(5))

        Raises:
            TypeError: If ``i`` is not an integer scalar.
        """
        if isinstance(i, jax.core.Tracer):
            integer: Any = i if jnp.issubdtype(i.dtype, jnp.integer) and i.ndim == 0 else None
        else:
            try:
                integer = None if isinstance(i, bool) else operator.index(i)
            except TypeError:
                integer = None
        if integer is None:
            raise TypeError(f"scope.fold takes an integer scalar, such as a time step, got {i!r}.")
        concrete = (self._path, integer) if isinstance(integer, int) else None
        context, leaves = self._context.folded(integer, self._leaves)
        return self._at(context, leaves, self._begun().folded(concrete), self._openings())

    # Writes of a model: TF1's operations on variables, and records. Each operation checks and
    # computes like the function of the same name in `_ops`, on one variable, returns the new value,
    # and enters it in the ledger of `js.with_updates`.

    def _change(self, name: str, operation: Callable[..., VarTree], *arguments: object) -> Array:
        whole = join(self._path, check(name))
        ledger = self._begun().updates
        if ledger is None or not ledger.takes():
            raise _cannot_assign(whole, ledger, at_boundary=self._begun().at_boundary)
        before = self._written(name, self._context.read(name, self._leaves, counted=False))
        changed = operation(from_flat({whole: before}), whole, *arguments)
        value: Array = changed[whole]
        ledger.entries[whole] = value
        return value

    def assign(self, name: str, value: Value) -> Array:
        """Give a variable a new value, of its shape and dtype; later reads see it.

        Args:
            name: Relative to this scope.
            value: As for `js.assign`.

        Returns:
            The new value.

        Raises:
            ScopeError: Outside `js.with_updates`, or in another trace than it began in.
            MissingVariableError: If there is no such variable.
            ShapeMismatchError: If the value has another shape.
            DtypeMismatchError: If the value has another dtype.

        Source: ``tf.assign``.
        """
        return self._change(name, assign.assign, value)

    def update(self, updates: Mapping[str, Any]) -> None:
        """`assign` each of a tree of updates, such as an inner `js.with_updates` returned.

        >>> y, updates = js.with_updates(block)(scope / "a", x)  # doctest: +SKIP
        >>> (scope / "a").update(updates)  # doctest: +SKIP
        """
        for name, value in as_tree(updates).items():
            self.assign(name, value)

    def assign_add(self, name: str, value: Value) -> Array:
        """Add to a variable: `js.assign_add`; returns the new value."""
        return self._change(name, assign.assign_add, value)

    def assign_sub(self, name: str, value: Value) -> Array:
        """Subtract from a variable: `js.assign_sub`; returns the new value."""
        return self._change(name, assign.assign_sub, value)

    def scatter_update(self, name: str, indices: Indices, updates: Value) -> Array:
        """Replace rows: `js.scatter_update`; returns the new value."""
        return self._change(name, scatter.scatter_update, indices, updates)

    def scatter_add(self, name: str, indices: Indices, updates: Value) -> Array:
        """Add to rows: `js.scatter_add`; returns the new value."""
        return self._change(name, scatter.scatter_add, indices, updates)

    def scatter_sub(self, name: str, indices: Indices, updates: Value) -> Array:
        """Subtract from rows: `js.scatter_sub`; returns the new value."""
        return self._change(name, scatter.scatter_sub, indices, updates)

    def scatter_mul(self, name: str, indices: Indices, updates: Value) -> Array:
        """Multiply rows: `js.scatter_mul`; returns the new value."""
        return self._change(name, scatter.scatter_mul, indices, updates)

    def scatter_div(self, name: str, indices: Indices, updates: Value) -> Array:
        """Divide rows: `js.scatter_div`; returns the new value."""
        return self._change(name, scatter.scatter_div, indices, updates)

    def scatter_min(self, name: str, indices: Indices, updates: Value) -> Array:
        """The minimum of rows and updates: `js.scatter_min`; returns the new value."""
        return self._change(name, scatter.scatter_min, indices, updates)

    def scatter_max(self, name: str, indices: Indices, updates: Value) -> Array:
        """The maximum of rows and updates: `js.scatter_max`; returns the new value."""
        return self._change(name, scatter.scatter_max, indices, updates)

    def scatter_nd_update(self, name: str, indices: Indices, updates: Value) -> Array:
        """Replace places: `js.scatter_nd_update`; returns the new value."""
        return self._change(name, scatter.scatter_nd_update, indices, updates)

    def scatter_nd_add(self, name: str, indices: Indices, updates: Value) -> Array:
        """Add to places: `js.scatter_nd_add`; returns the new value."""
        return self._change(name, scatter.scatter_nd_add, indices, updates)

    def scatter_nd_sub(self, name: str, indices: Indices, updates: Value) -> Array:
        """Subtract from places: `js.scatter_nd_sub`; returns the new value."""
        return self._change(name, scatter.scatter_nd_sub, indices, updates)

    def batch_scatter_update(self, name: str, indices: Indices, updates: Value) -> Array:
        """Replace rows, batch by batch: `js.batch_scatter_update`; returns the new value."""
        return self._change(name, scatter.batch_scatter_update, indices, updates)

    def count_up_to(self, name: str, limit: int) -> Array:
        """Count up to a limit: `js.count_up_to`; returns the value before."""
        before: list[Array] = []

        def count(tree: VarTree, whole: str) -> VarTree:
            value, counted = assign.count_up_to(tree, whole, limit)
            before.append(value)
            return counted

        self._change(name, count)
        return before[0]

    def record(self, name: str, value: object) -> None:
        """Offer a value, such as an activation, to `js.with_records`; else nothing happens.

        Args:
            name: Relative to this scope.
            value: An array, or a pytree of arrays.

        Raises:
            NameCollisionError: If the name was recorded already, within `js.with_records`.
            ScopeError: If `js.with_records` collects it, but it is made in the body of a transform
                or in a scope made by `Scope.with_values`, so that it would be lost.
        """
        whole = join(self._path, check(name))
        ledger = self._begun().open_records()
        if ledger is None:
            requested = self._context.records
            if requested is not None and requested.picks(name, value):
                raise out_of_reach([whole])
            return
        if not ledger.takes():
            ledger.out_of_reach[whole] = jax.eval_shape(lambda: value)
            return
        if whole in ledger.entries:
            raise NameCollisionError(
                f"{whole!r} was recorded already. A loop needs a name for each: "
                f"scope.record(f'{name}_{{i}}', value)."
            )
        ledger.entries[whole] = value

    # The values as a tree, and other values.

    def with_values(self, tree: Mapping[str, Any], /) -> Self:
        """This scope over other values: to differentiate by its variables, cast or replace them.

        ``js.VarTree(scope)`` gives the present ones. Together they take the gradient by the
        variables of a part of a model, which keeps its random streams:

        >>> def adapted(scope, x):
        ...     inner = scope / "inner"
        ...     loss = lambda tree: (block(inner.with_values(tree), x) ** 2).mean()
        ...     tree = js.VarTree(inner)
        ...     gradients = jax.grad(loss)(tree)
        ...     tree = jax.tree.map(lambda w, g: w - 0.1 * g, tree, gradients)
        ...     return block(inner.with_values(tree), x)

        Args:
            tree: Values by names relative to this scope. While declaring they are ignored:
                variables are declared as usual.

        Returns:
            A scope of the same path, defaults and random keys, in which nothing
            was requested or drawn so far. Assignments and records in it belong to
            `js.with_updates` and `js.with_records` inside: those around don't get them.

        Raises:
            TypeError: If ``tree`` is not a mapping.
        """
        context, leaves = self._requesting().with_values(as_tree(tree), self._leaves)
        return self._at(context, leaves, self._begun().anew())

    def __vartree__(self) -> VarTree:
        """The variables' values below this scope: ``js.VarTree(scope)``."""
        context, leaves = self._context, self._leaves
        values = ((name, context.read(name, leaves, counted=False)) for name in context.variables())
        return from_flat({name: self._written(name, value) for name, value in values})

    def _requesting(self) -> Bound | Declaring:
        """The context; where it leaves its usage tracker, it has the request for records."""
        ledger = None if self._usage is None else self._usage.open_records()
        if ledger is None:
            return self._context
        return self._context.requesting(ledger.requested(self._path))

    def specs(self, function: Callable[[str, Any], Any], rest: object) -> Self:
        """Specs in the shape of this scope: an ``in_specs`` of `jax.shard_map`, an ``in_axes``.

        A bound scope has its variables as leaves, a declaring one has not; this fits both. It
        also records, for a declaration, the sharding of variables that are created inside
        `jax.shard_map`, where shapes are those of one shard.

        Args:
            function: ``f(name, value)`` gives the spec of a variable; the name is relative to
                this scope, the value an array or, declaring, a `jax.ShapeDtypeStruct`.
            rest: The spec of all other leaves, which are random keys and the like.

        >>> scope = js.Scope({"w": jnp.ones((8, 3))})
        >>> sharded, whole = jax.sharding.PartitionSpec("model"), jax.sharding.PartitionSpec()
        >>> specs = scope.specs(lambda name, value: sharded, whole)
        """
        context = self._requesting()
        return self._at(context, context.with_leaves(function, rest, self._leaves), None)

    def __copy__(self) -> Self:
        return self._at(self._context, self._leaves, self._begun(), self._openings())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        del memo  # all that a scope refers to is immutable, or shared among scopes on purpose
        return self.__copy__()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"The scope {self._path!r} can't be pickled: it belongs to a run of its model. Pickle "
            "the tree, and write js.Scope(tree) where it is loaded."
        )

    def __repr__(self) -> str:
        return f"Scope({self.name!r}, {self._context.summary()})"

    if not TYPE_CHECKING:  # else any misspelled name would have a type

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute_of(self, name)

    def __iter__(self) -> NoReturn:
        raise TypeError("A scope can't be iterated; iterate over the tree it was made of.")


def _cannot_assign(name: str, ledger: Ledger | None, *, at_boundary: bool) -> ScopeError:
    """Compose the error for `Scope.assign`, called on a scope where it can't take a new value."""
    if at_boundary and not in_transform():
        return ScopeError(
            f"Variable {name!r} was assigned through a scope that was rebuilt from its leaves, as "
            "jax.lax.stop_gradient(scope) and jax.tree.map(f, scope) do. Such a scope no longer "
            "belongs to the call of js.with_updates that collects updates. Write "
            "y, updates = js.with_updates(block)(rebuilt, x), and then scope.update(updates) in "
            "the scope from which it was rebuilt."
        )
    if at_boundary or (ledger is not None and ledger.is_open):
        return ScopeError(
            f"Variable {name!r} was assigned inside {transform_around()}, from which a new value "
            "comes out only as a result. Write the function that is transformed with "
            "y, updates = js.with_updates(block)(scope, x), return both, and outside write "
            "scope.update(updates) in the scope that was passed. (If the whole model is in the "
            "transform: js.with_updates(model)(js.Scope(tree), x).)"
        )
    ended = "js.with_updates has ended" if ledger is not None else "nothing collects updates here"
    return ScopeError(
        f"Variable {name!r} was assigned, but {ended}, and the new value would be lost. Apply the "
        "model with out, updates = js.with_updates(model)(tree, ...); the new state is "
        "state | updates."
    )


def with_ledgers(scope: Scope, updates: Ledger | None, records: RecordsLedger | None) -> Scope:
    """The same `Scope` with other ledgers for its updates or records; None leaves them."""
    usage = scope._begun().with_ledgers(updates, records)
    return scope._at(scope._context, _flatten(scope)[0], usage, scope._openings())


def scope_over(context: Bound | Declaring, leaves: tuple[Any, ...], usage: Usage | None) -> Scope:
    """A `Scope` object of a context, its leaves and a usage tracker, which are not checked."""
    scope = Scope.__new__(Scope)
    scope._context = context
    scope._leaves = leaves
    scope._usage = usage
    scope._opened = None
    return scope


def _merge(trees: tuple[Mapping[str, Any], ...]) -> VarTree:
    """The trees that `Scope` was given, in one; their names must differ."""
    for tree in trees:
        if isinstance(tree, Scope):
            raise ScopeError(
                "js.Scope takes trees of variables; this is a scope already. Use it as it is."
            )
    first, *rest = map(as_tree, trees)
    for tree in rest:
        both = [name for name in tree if name in first]
        if both:
            raise NameCollisionError(
                f"js.Scope(tree, ...) merges trees with different names, but {listed(both)} "
                "are in two of them. To let one win, write js.Scope(a | b)."
            )
        first = first | tree
    return first


# The pytree registration.


def _flatten(scope: Scope) -> tuple[tuple[Any, ...], Bound | Declaring]:
    usage, context, leaves = scope._usage, scope._context, scope._leaves
    if usage is not None and not (usage.updates is None and usage.records is None):
        context, leaves = scope._requesting(), scope._current_leaves()
    return leaves, context if context.creation_only is None else context.static()


def _flatten_with_keys(
    scope: Scope,
) -> tuple[tuple[tuple[Any, Any], ...], Bound | Declaring]:
    leaves, context = _flatten(scope)
    return tuple(zip(context.leaf_keys(leaves), leaves, strict=True)), context


def _unflatten(context: Bound | Declaring, leaves: Iterable[Any]) -> Scope:
    scope = scope_over(context, leaves, None)  # type: ignore[arg-type]  # JAX passes a tuple
    scope._since = clock()
    return scope


jax.tree_util.register_pytree_with_keys(Scope, _flatten_with_keys, _unflatten, _flatten)

jax.export.register_pytree_node_serialization(
    Scope,
    serialized_name="jscope.Scope",
    serialize_auxdata=lambda context: context.to_bytes(),
    deserialize_auxdata=from_bytes,
)
