"""Entering scopes: the methods of `Scope` that give other scopes.

Imports: `_cursor`, `_defaults`, `_errors`, `_getters`, `_names`, `_recorder`, `_refused`, `_sites`,
`initializers`, `regularizers`, `sharding`.
"""

import operator
from typing import Self

from jax.typing import ArrayLike, DTypeLike

from ._cursor import Cursor
from ._defaults import read
from ._errors import GetterError, ScopeError, ShapeMismatchError
from ._getters import Creator, CustomGetter
from ._names import check
from ._recorder import AUTO_REUSE, Constraint, Reuse
from ._refused import refused
from ._sites import elsewhere
from .initializers import Initializer
from .regularizers import Regularizer
from .sharding import Partitioner


class Entering(Cursor):
    """``scope / name``, `variable_scope`, `shared`, `stacked`."""

    __slots__ = ()

    def __truediv__(self, name: str) -> Self:
        """The scope ``name`` below this one; ``scope / "a/b"`` is ``scope / "a" / "b"``."""
        if not isinstance(name, str):
            raise TypeError(f"scope / name takes a string, got {name!r} of {type(name).__name__}.")
        place, leaves = self._place.child(check(name), self._leaves)
        return self._at(place, leaves, self._begun())

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
        scope if one is given. The result is its own context manager, ``with
        scope.variable_scope("a") as a:``; leaving it does nothing.

        >>> def model(scope, x):
        ...     first = scope.variable_scope(None, default_name="conv")  # "conv"
        ...     second = scope.variable_scope(None, default_name="conv")  # "conv_1"
        ...     x = block(second, block(first, x))
        ...     return block(scope.variable_scope(first, reuse=True), x)  # "conv"

        Args:
            name_or_scope: A name, relative to this scope; or a scope, which is entered where it
                is: its name, reuse and defaults are its own, whatever this scope's are.
            default_name: The name if ``name_or_scope`` is None, made unique: ``d``, ``d_1``, ...
                TF's rules of counting: `_openings`.
            initializer: Default for `get_variable`.
            regularizer: Default for `get_variable`; `js.no_regularizer` stops inheritance.
            partitioner: ``f(name, shape, dtype) -> PartitionSpec``, asked for each variable
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
            constraint: Default for `get_variable` in this very scope; it is not inherited.
            values: With ``caching_device``, ``use_resource`` and ``auxiliary_name_scope``:
                TF1's; an error says what takes their place.

        Raises:
            TypeError: If neither a name nor a scope is given.
            ScopeError: If the scope is another tree's or another declaration's; if ``reuse`` is
                given with a default name alone; or if a default name is asked for in a
                transform.
            VariableNameError: If the name isn't legal.
            ValueError, DtypeMismatchError, ConstraintError, GetterError: If a default is none.

        Source: ``tf.variable_scope``, its arguments in its order. Differences: a scope is a
            value and nothing is entered; names can't be empty; a partitioner gives how a variable
            is sharded over a mesh, and the variable stays one array.
        """
        if not (values is caching_device is use_resource is auxiliary_name_scope is None):
            raise refused(
                f"variable_scope({name_or_scope!r})",
                values=values,
                caching_device=caching_device,
                use_resource=use_resource,
                auxiliary_name_scope=auxiliary_name_scope,
            )
        if isinstance(name_or_scope, Entering):
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
        below._place = below._place.with_defaults(changes, below.name)
        return below

    def _jump(self, scope: Self) -> Self:
        """Another scope, entered from here."""
        foreign = self._place.is_foreign(scope._place)
        if foreign is None and scope._begun().is_of_other_root(self._begun()):
            foreign = "is another tree's, or of another js.Scope(tree)"
        if foreign is not None:
            raise ScopeError(
                f"The scope {scope._path!r} can't be entered from {self._path!r}: it {foreign}. "
                "Enter scopes that descend from the one that the model was given."
            )
        opened = self._openings().enter(scope._path)
        return self._at(scope._place.without_constraint(), scope._leaves, scope._begun(), opened)

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
                f"The default name {default_name!r} was asked for in the scope {self._path!r} "
                f"{elsewhere()}. JAX may run a body once for two calls, which would "
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
        place = self._place.with_defaults({"reuse": True}, self.name)
        return self._at(place, self._leaves, self._begun(), self._openings())

    def variable_creator_scope(self, variable_creator: Creator) -> Self:
        """This scope, in which new variables are made by a function of yours.

        Creators run only where a model is declared, so they can decide how a variable begins and
        what is declared of it, but not what a look-up gives; for that, there are custom getters.

        >>> def frozen(next_creator, **arguments):
        ...     return next_creator(**arguments | {"trainable": False})
        >>> def model(scope, x):
        ...     return block(scope.variable_creator_scope(frozen) / "backbone", x)

        Args:
            variable_creator: ``f(next_creator, **arguments) -> VariableSpec``. The arguments are
                ``name``, the whole one, ``shape``, ``dtype``, ``initializer``, ``regularizer``,
                ``trainable``, ``collections``, ``partitioner``, ``constraint`` and ``sharding``,
                the scope's defaults included. ``next_creator(**arguments)`` is that of the scope
                around, or makes the variable. What `get_variable` named, it may not change.

        Raises:
            GetterError: If it isn't callable; and when a variable is created, if it gives no
                `VariableSpec`, or wants another name.

        Source: ``tf.variable_creator_scope``. Differences: the value begins with
            ``initializer`` and ``shape``, where TF has ``initial_value``; a spec is returned,
            where TF may return another variable.
        """
        if not callable(variable_creator):
            raise GetterError(
                f"Passed a variable_creator which is not callable: {variable_creator!r}. It is a "
                "function f(next_creator, **arguments) that returns next_creator(**arguments)."
            )
        place = self._place.with_defaults({"creators": (variable_creator,)}, self.name)
        return self._at(place, self._leaves, self._begun(), self._openings())

    def shared(self, name: str) -> Self:
        """The scope ``name`` below this one, in which asking twice means sharing.

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
        place, leaves = self._place.stacked(check(name), length, self._leaves)
        return self._at(place, leaves, self._begun())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None
