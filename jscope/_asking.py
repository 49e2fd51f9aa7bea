"""Asking for variables: the methods of `Scope` that look variables up, or create them.

Imports: `_collections`, `_cursor`, `_getters`, `_names`, `_place`, `_recorder`, `_refused`,
`_sites`, `initializers`, `regularizers`, `sharding`, JAX.
"""

from collections.abc import Iterable
from typing import Any

from jax import Array
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike, DTypeLike

from ._collections import GraphKeys
from ._cursor import Cursor
from ._getters import CustomGetter, check_getter, composed_in
from ._names import check
from ._place import Request, Shape
from ._recorder import Constraint, Reuse
from ._refused import refused
from ._sites import call_site
from ._tree import NUMPY_TYPES, jax_value
from .initializers import Initializer
from .regularizers import Regularizer
from .sharding import Partitioner


class Asking(Cursor):
    """`get_variable`, `get_local_variable`, ``scope[name]`` and `has`."""

    __slots__ = ()

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
                scope's, or float32. While applying a model, or sharing, a dtype that nobody
                named isn't checked.
            initializer: ``f(key, shape, dtype) -> array``; or the initial value itself, or a
                function of no arguments that gives it. Default: the scope's, or Glorot uniform
                for floats and zeros for integers and bools.
            regularizer: ``f(value) -> scalar`` for `Declaration.regularization_loss`.
                Default: the scope's.
            trainable: Whether an optimizer should update it. Default: True.
            collections: The keys under which `Declaration.collection` finds it. Default:
                ``["variables"]``. A trainable variable is in ``"trainable_variables"`` too.
            partitioner: ``f(name, shape, dtype) -> PartitionSpec``, asked if ``sharding`` is not
                said. Default: the scope's.
            validate_shape: Whether the shape is compared with that of a variable that exists.
            custom_getter: Stands between this request and its result, in place of the scope's;
                see `variable_scope`. It gets `Scope.name` and ``name`` in one: the name relative
                to the last transform's boundary.
            constraint: ``f(value) -> value`` for `Declaration.apply_constraints`. Default: that
                of this very scope.
            caching_device: With ``use_resource``, ``synchronization`` and ``aggregation``: TF1's;
                an error says what takes their place.
            sharding: How `Declaration.init` shards it over a mesh. Not TF1's.

        Returns:
            The value, as JAX's array if the tree holds NumPy's; an abstract one while declaring;
            or what a custom getter makes of it.

        Raises:
            MissingVariableError: If it doesn't exist: in a bound scope, or with ``reuse=True``.
            VariableExistsError: If it was asked for already, and sharing was not said.
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
        request = Request(
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
        )
        if custom_getter is not None:
            got = self._through((check_getter(custom_getter),), self.name, request)
        elif self._place.getters:
            got = self._through(self._place.getters, self._place.getter_path, request)
        else:
            got = self._found(request)
        value: Array = got
        return value

    def get_local_variable(
        self,
        name: str,
        shape: Shape = None,
        dtype: DTypeLike | None = None,
        initializer: Initializer | ArrayLike | None = None,
        regularizer: Regularizer | None = None,
        trainable: bool | None = False,
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
        """`get_variable` of what is no part of the model, such as a metric's counter.

        It is in the collection ``"local_variables"`` instead of ``"variables"``, and never
        trainable, whatever is passed. All arguments are those of `get_variable`.

        Source: ``tf.get_local_variable``.
        """
        del trainable
        keys: Any = collections  # what is no list gets its error below
        if collections is None or isinstance(collections, list | tuple | set | frozenset):
            keys = (*(collections or ()), GraphKeys.LOCAL_VARIABLES)
        return self.get_variable(
            name,
            shape,
            dtype,
            initializer,
            regularizer,
            False,
            keys,
            caching_device,
            partitioner,
            validate_shape,
            use_resource,
            custom_getter,
            constraint,
            synchronization,
            aggregation,
            sharding=sharding,
        )

    def _found(self, request: Request) -> Array:
        value: Array = self._place.get(request, self._leaves, self._begun(), call_site())
        value = self._written(request.name, value)
        # Asked here, on the way of every look-up: the call would cost more than the question.
        return jax_value(value) if isinstance(value, NUMPY_TYPES) else value

    def _through(self, getters: tuple[CustomGetter, ...], path: str, request: Request) -> Any:
        """What custom getters make of a request; they get TF's arguments, those with a meaning.

        They know this scope by ``path``.
        """
        filled = request.filled(self._place.defaults)
        arguments: dict[str, Any] = {
            "shape": filled.shape,
            "dtype": filled.dtype,
            "initializer": filled.initializer,
            "regularizer": filled.regularizer,
            "reuse": self._place.reuse,
            "trainable": filled.trainable,
            "collections": filled.collections,
            "partitioner": filled.partitioner,
            "validate_shape": filled.validate_shape,
            "constraint": filled.constraint,
        }
        if filled.sharding is not None:  # not TF's
            arguments["sharding"] = filled.sharding
        getter = composed_in(path, getters, self._true_getter)
        return getter(name=request.name, **arguments)

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
        """What custom getters end in: a variable of this scope, the scope's defaults apart."""
        if not (caching_device is use_resource is synchronization is aggregation is None):
            raise refused(
                f"getter({name!r})",
                caching_device=caching_device,
                use_resource=use_resource,
                synchronization=synchronization,
                aggregation=aggregation,
            )
        request = Request(
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
        self._place.check_sliced(self._leaves, f"Variable {name!r}")
        value = self._written(check(name), self._place.read(name, self._leaves))
        return jax_value(value) if isinstance(value, NUMPY_TYPES) else value

    def variables(self) -> tuple[str, ...]:
        """The names of the variables below this scope, relative to it.

        While declaring, those created so far, in order. In a bound scope, those of the tree, in
        its order.

        Source: ``tf.VariableScope.global_variables``; local ones are among them.
        """
        return self._place.variables()

    def trainable_variables(self) -> tuple[str, ...]:
        """Those of `variables` that are trainable, in order of creation.

        Raises:
            ScopeError: If a bound scope doesn't know: values don't say which of them are
                trainable. It knows it of what was asked for through its root scope, so all below
                must have been. `Declaration.trainable_variables` always knows.

        Source: ``tf.VariableScope.trainable_variables``.
        """
        return self._place.trainable_variables(self._begun())

    def has(self, name: str) -> bool:
        """Whether the variable exists: in the tree, or, declaring, among those created so far."""
        return self._place.has(check(name))
