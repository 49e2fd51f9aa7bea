"""How variables are laid out over a mesh: partitioners, rules, and the check that they fit.

A spec may come from three places, and the later one wins:

1. a **partitioner** of a scope, ``f(name, shape, dtype) -> PartitionSpec or None``, called for each
   variable that is created below the scope: ``scope.variable_scope("body", partitioner=f)``;
2. the variable itself: ``scope.get_variable("w", shape, sharding=PartitionSpec(None, "model"))``;
3. **rules**, where a declared model meets a mesh: ``declared.init(key, mesh=mesh, rules=[("**/w",
   PartitionSpec(None, "model"))])``. The first rule that picks a variable decides.

A spec is that of one slice of a stack; the stack's own axes stay whole. A variable without
a spec is replicated. This file moves no data: `Declaration.shardings` turns names into
`jax.sharding.NamedSharding`, and `Declaration.init` gives each device its own shard.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from ._errors import ShardingError
from ._names.tf1 import public
from ._tree.selection import Selector, matching
from ._variables.spec import Partitioner as Partitioner
from ._variables.spec import VariableSpec

Rules: TypeAlias = Sequence[tuple[Selector, PartitionSpec | Partitioner | None]]
AnyMesh: TypeAlias = Mesh | AbstractMesh


# TF1's partitioners.


@dataclass(frozen=True)
class _AxisPartitioner:
    """What TF1's three partitioners have in common: they cut along one axis, scalars not at all."""

    axis: int
    mesh_axis: str

    def shards(self, shape: Sequence[int], dtype: DTypeLike) -> int:
        """The number of shards that TF1 would cut a variable into, along `axis`."""
        raise NotImplementedError  # by those below

    def partitions(self, shape: Sequence[int], dtype: DTypeLike) -> list[int]:
        """The number of shards along each axis, as TF1's partitioner returns it."""
        counts = [1] * len(shape)
        counts[self.axis] = self.shards(shape, dtype)
        return counts

    def __call__(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> PartitionSpec | None:
        if not shape:
            return None
        if not -len(shape) <= self.axis < len(shape):
            below = self.axis if self.axis >= 0 else -self.axis - 1
            raise ShardingError(
                f"Cannot partition variable {name!r} along axis {self.axis} when shape is only "
                f"{shape}. For a scope that has such variables too, pass a function: "
                "partitioner=lambda name, shape, dtype: part(name, shape, dtype) if len(shape) > "
                f"{below} else None."
            )
        if self.shards(shape, dtype) == 1:
            return PartitionSpec()
        return PartitionSpec(*(None,) * (self.axis % len(shape)), self.mesh_axis)


@dataclass(frozen=True)
class _FixedSize(_AxisPartitioner):
    num_shards: int

    def shards(self, shape: Sequence[int], dtype: DTypeLike) -> int:
        return min(self.num_shards, shape[self.axis])


@dataclass(frozen=True)
class _VariableAxisSize(_AxisPartitioner):
    max_shard_bytes: int
    max_shards: int | None

    def shards(self, shape: Sequence[int], dtype: DTypeLike) -> int:
        length = shape[self.axis]
        if not math.prod(shape):
            return 1
        bytes_per_slice = _size(shape, dtype) / length
        slices_per_shard = max(1, math.floor(self.max_shard_bytes / bytes_per_slice))
        count = math.ceil(length / slices_per_shard)
        return count if self.max_shards is None else min(self.max_shards, count)


@dataclass(frozen=True)
class _MinMax(_AxisPartitioner):
    max_partitions: int
    min_slice_size: int

    def shards(self, shape: Sequence[int], dtype: DTypeLike) -> int:
        wanted = math.ceil(_size(shape, dtype) / self.min_slice_size)
        return max(1, min(shape[self.axis], self.max_partitions, wanted))


def _size(shape: Sequence[int], dtype: DTypeLike) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def _positive(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ShardingError(f"`{name}` must be positive, got {count!r}.")


def fixed_size_partitioner(num_shards: int, axis: int = 0, *, mesh_axis: str) -> Partitioner:
    r"""Cut every variable along one axis.

    TF1 cuts into $\min(\texttt{num\_shards}, \texttt{shape[axis]})$ shards. If these are more than
    one, the spec names the mesh's axis there; else it is ``PartitionSpec()``, replicated.

    >>> part = js.sharding.fixed_size_partitioner(4, mesh_axis="model")
    >>> part("embedding", (1000, 64), jnp.float32)
    P('model',)

    Args:
        num_shards: At least 1.
        axis: The axis of a slice to cut; may be negative.
        mesh_axis: The axis of the mesh to cut it over.

    Returns:
        A partitioner. Its method ``partitions(shape, dtype)`` gives TF1's list of numbers.

    Raises:
        ShardingError: If ``num_shards`` is below 1; when called, if a variable has no such axis.
            Scalars are left whole, as in TF1.

    Source: ``tf.fixed_size_partitioner``. Differences, here and in the other two: TF1 makes
    one variable for each shard, of sizes that may differ by one, and the number of shards is
    the partitioner's. Here the variable stays one, TF1's number decides only whether it is
    cut, and into how many equal shards is the size of the mesh's axis.
    """
    _positive(num_shards=num_shards)
    return _FixedSize(axis, mesh_axis, num_shards)


def variable_axis_size_partitioner(
    max_shard_bytes: int, axis: int = 0, *, max_shards: int | None = None, mesh_axis: str
) -> Partitioner:
    r"""Cut variables along one axis such that no shard has more bytes than allowed.

    With $s$ bytes in one of the $n$ slices along the axis, TF1 cuts into

    $$\min(\texttt{max\_shards},\ \lceil n / \max(1, \lfloor \texttt{max\_shard\_bytes} / s
    \rfloor) \rceil)$$

    shards. If these are more than one, the spec names the mesh's axis.

    >>> part = js.sharding.variable_axis_size_partitioner(64 << 20, mesh_axis="model")
    >>> part("small", (1000, 64), jnp.float32), part("large", (10**6, 64), jnp.float32)
    (P(), P('model',))

    Args:
        max_shard_bytes: At least 1, in bytes.
        axis: The axis of a slice to cut; may be negative.
        max_shards: At least 1, or None for no limit.
        mesh_axis: The axis of the mesh to cut it over.

    Raises:
        ShardingError: As `fixed_size_partitioner`.

    Source: ``tf.variable_axis_size_partitioner``; see `fixed_size_partitioner` for the
    differences. There are no strings, so ``bytes_per_string_element`` is left out, and what
    follows it is passed by name.
    """
    _positive(max_shard_bytes=max_shard_bytes, max_shards=max_shards)
    return _VariableAxisSize(axis, mesh_axis, max_shard_bytes, max_shards)


def min_max_variable_partitioner(
    max_partitions: int = 1, axis: int = 0, min_slice_size: int = 256 << 10, *, mesh_axis: str
) -> Partitioner:
    r"""Cut variables along one axis, but none into shards smaller than a minimum.

    A variable of $b$ bytes and $n$ slices along the axis is cut by TF1 into

    $$\max(1,\ \min(n,\ \texttt{max\_partitions},\ \lceil b / \texttt{min\_slice\_size} \rceil))$$

    shards. If these are more than one, the spec names the mesh's axis.

    >>> part = js.sharding.min_max_variable_partitioner(8, axis=1, mesh_axis="model")
    >>> part("w", (4096, 4096), jnp.float32), part("b", (1, 4096), jnp.float32)
    (P(None, 'model'), P())

    Args:
        max_partitions: At least 1; 1, TF1's default, cuts nothing.
        axis: The axis of a slice to cut; may be negative.
        min_slice_size: At least 1, in bytes.
        mesh_axis: The axis of the mesh to cut it over.

    Raises:
        ShardingError: As `fixed_size_partitioner`.

    Source: ``tf.min_max_variable_partitioner``; see `fixed_size_partitioner` for the
    differences. There are no strings, so ``bytes_per_string_element`` is left out.
    """
    _positive(max_partitions=max_partitions, min_slice_size=min_slice_size)
    return _MinMax(axis, mesh_axis, max_partitions, min_slice_size)


# From specs to shardings over a mesh.


def check_spec(name: str, spec: object, shape: Sequence[int]) -> PartitionSpec | None:
    """A spec that is valid for a slice of this shape, on some mesh.

    Raises:
        ShardingError: If it isn't a spec, or has more parts than the slice has axes.
    """
    if spec is None:
        return None
    if not isinstance(spec, PartitionSpec):
        raise ShardingError(
            f"Variable {name!r}: a sharding is a jax.sharding.PartitionSpec, such as "
            f"PartitionSpec(None, 'model'), got {spec!r} of type {type(spec).__name__}."
        )
    if len(spec) > len(shape):
        raise ShardingError(
            f"Variable {name!r}: {spec} has {len(spec)} parts, but the shape {tuple(shape)} has "
            f"{len(shape)} axes."
        )
    return spec


def specs_by_rules(
    specs: Mapping[str, VariableSpec], rules: Rules
) -> dict[str, PartitionSpec | None]:
    """The sharding of one slice of each variable: by the first rule that picks it, or as declared.

    Raises:
        SelectorError: If a selector picks nothing.
        ShardingError: If a rule isn't a pair, or doesn't give a spec for a variable.
    """
    found = {name: spec.sharding for name, spec in specs.items()}
    decided: set[str] = set()
    for rule in rules:
        if not isinstance(rule, tuple | list) or len(rule) != 2:
            raise ShardingError(
                f"A rule is a pair (selector, PartitionSpec), got {rule!r}. `rules` is a list of "
                "them: rules=[('**/w', PartitionSpec(None, 'model'))]."
            )
        selector, given = rule
        for name in matching(specs, selector, hint="Leave the rule out.") - decided:
            spec = specs[name]
            here = given(name, spec.slice_shape, spec.dtype) if callable(given) else given
            found[name] = check_spec(name, here, spec.slice_shape)
            decided.add(name)
    return found


def named_shardings(
    specs: Mapping[str, VariableSpec], mesh: AnyMesh, rules: Rules = ()
) -> dict[str, NamedSharding]:
    """The sharding of each variable over a mesh, stacks' axes included.

    Raises:
        SelectorError: If a rule's selector picks nothing.
        ShardingError: If specs don't fit the mesh or the shapes; all are listed.
    """
    given = specs_by_rules(specs, rules)
    problems = [
        f"  {name!r}: {problem}"
        for name, spec in specs.items()
        for problem in _problems(given[name] or PartitionSpec(), spec, mesh)
    ]
    if problems:
        sizes = ", ".join(f"{axis!r}: {size}" for axis, size in mesh.shape.items())
        raise ShardingError(
            f"{len(problems)} sharding{'s' * (len(problems) > 1)} can't be used on the mesh "
            f"{{{sizes}}}:\n" + "\n".join(problems),
            "\nGive another spec with rules=[(selector, PartitionSpec(...))], or use another mesh.",
        )
    return {
        name: NamedSharding(
            mesh, PartitionSpec(*(None,) * len(spec.stack), *(given[name] or PartitionSpec()))
        )
        for name, spec in specs.items()
    }


def mesh_for_init(mesh: AnyMesh | None) -> AnyMesh | None:
    """The mesh to shard initial values over: the given one, else that of `jax.set_mesh`, if any.

    Raises:
        ShardingError: If the given one has no devices, and none are known from elsewhere, or is
            not a mesh.
    """
    ambient = jax.sharding.get_abstract_mesh()
    if mesh is not None:
        if not isinstance(mesh, Mesh | AbstractMesh):
            raise ShardingError(
                f"A mesh is needed, got {mesh!r}. Write mesh=jax.make_mesh((8,), ('model',))."
            )
        if isinstance(mesh, AbstractMesh) and ambient.empty:
            raise ShardingError(
                f"{mesh} has no devices to compute initial values on. Pass "
                "mesh=jax.make_mesh(...), or enter `with jax.set_mesh(mesh)`. declared.plan and "
                "declared.abstract need none."
            )
        return mesh
    if ambient.empty or ambient.manual_axes:
        return None
    try:
        return jax.sharding.get_mesh()
    except ValueError:  # in a trace there is only the abstract one
        return ambient


def abstract_mesh(mesh: AnyMesh | Mapping[str, int]) -> AbstractMesh:
    """A mesh without devices, from one or from ``{axis: size}``."""
    if isinstance(mesh, Mesh | AbstractMesh):
        return mesh if isinstance(mesh, AbstractMesh) else mesh.abstract_mesh
    _positive(**mesh)
    return AbstractMesh(tuple(mesh.values()), tuple(mesh))


def _problems(given: PartitionSpec, spec: VariableSpec, mesh: AnyMesh) -> Iterator[str]:
    shape = spec.slice_shape
    parts = [part if isinstance(part, tuple) else (part,) for part in given]
    axes = [axis for part in parts for axis in part if axis is not None]
    strange = [axis for axis in axes if axis not in mesh.shape]
    if strange:
        yield f"{given} names {strange[0]!r}, which is not an axis of the mesh"
        return
    twice = sorted({axis for axis in axes if axes.count(axis) > 1})
    if twice:
        yield f"{given} names the axis {twice[0]!r} twice"
    for i, part in enumerate(parts):
        shards = math.prod(mesh.shape[axis] for axis in part if axis is not None)
        if shape[i] % shards:
            over = " x ".join(map(repr, part))
            yield (
                f"axis {i} of {shape} can't be cut over {over}: {shape[i]} / {shards} = "
                f"{shape[i] / shards:.6g}"
            )


def __dir__() -> list[str]:
    return public(globals())
