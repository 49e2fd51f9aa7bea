"""What a training step holds on each device, computed from a declaration and a mesh's shape.

Nothing is allocated and no device is needed: shapes are divided by the mesh, and the
optimizer's state is `jax.eval_shape` of its ``init``. Activations and XLA's own buffers are not
counted.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from .._tree.text import bytes_text, table
from .._tree.values import value_bytes
from .._tree.vartree import VarTree, from_flat
from .._variables.spec import VariableSpec
from ..sharding import AnyMesh, Rules, abstract_mesh, named_shardings

_SHOWN = 10  # rows of a printed table of variables


class Optimizer(Protocol):
    """What is planned for: an object with ``init``, from parameters to a state, such as Optax's."""

    @property
    def init(self) -> Callable[[VarTree], object]: ...


@dataclass(frozen=True)
class Planned:
    """One array of a plan: how it is sharded, and its bytes on each device.

    Attributes:
        name: The variable's name, or the path of a leaf of the optimizer's state.
        shape: Its whole shape.
        dtype: Its dtype.
        spec: How it is laid out over the mesh.
        bytes: Of the whole array.
        device_bytes: Of the shard on each device.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    spec: PartitionSpec
    bytes: int
    device_bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether each device holds all of it."""
        return self.device_bytes == self.bytes


@dataclass(frozen=True, repr=False)
class Plan:
    """Bytes on each device for a model's variables, their gradients and an optimizer's state.

    Prints as a table, and one each of the largest variables that are cut and that stay whole.

    Attributes:
        mesh: The mesh's axes and their sizes.
        trainable: The trainable variables.
        other: The other variables.
        optimizer: The arrays of the optimizer's state. One that belongs to a variable and has
            its shape is sharded as the variable; the others are whole on each device.
    """

    mesh: AbstractMesh
    trainable: tuple[Planned, ...]
    other: tuple[Planned, ...]
    optimizer: tuple[Planned, ...]

    @property
    def parameter_bytes(self) -> int:
        """Of the trainable variables, per device."""
        return _per_device(self.trainable)

    @property
    def gradient_bytes(self) -> int:
        """Of the gradients, which are laid out as the trainable variables; per device."""
        return self.parameter_bytes

    @property
    def optimizer_bytes(self) -> int:
        """Of the optimizer's state, per device."""
        return _per_device(self.optimizer)

    @property
    def other_bytes(self) -> int:
        """Of the variables that are not trainable, per device."""
        return _per_device(self.other)

    @property
    def total_bytes(self) -> int:
        """All of these, per device."""
        return self.parameter_bytes + self.gradient_bytes + self.optimizer_bytes + self.other_bytes

    @property
    def replicated(self) -> tuple[Planned, ...]:
        """The variables that each device holds whole, the largest first."""
        whole = [row for row in (*self.trainable, *self.other) if row.is_whole]
        return tuple(sorted(whole, key=lambda row: -row.bytes))

    def __repr__(self) -> str:
        axes = ", ".join(f"{axis} {size}" for axis, size in self.mesh.shape.items())
        parts = {
            "parameters": self.trainable,
            "gradients": self.trainable,
            "optimizer's state": self.optimizer,
            "other variables": self.other,
        }
        rows = [_summary(label, part) for label, part in parts.items()]
        rows.append(_summary("together", sum(parts.values(), ())))
        header = ("bytes", "on each device", "of these replicated", "of all")
        text = [
            f"Plan for {self.mesh.size:,} devices ({axes})",
            table(header, rows, right=header[1:]),
        ]
        variables = (*self.trainable, *self.other)
        cut = [row for row in variables if not row.is_whole]
        if cut:
            text.append(_largest("cut", cut, {"sharding": lambda row: str(row.spec)}))
        if self.replicated:
            text.append(_largest("whole", self.replicated, {}))
        return "\n\n".join(text)


def _largest(
    title: str, rows: Iterable[Planned], more: Mapping[str, Callable[[Planned], str]]
) -> str:
    """A table for a plan: the variables that take the most bytes on each device."""
    columns: dict[str, Callable[[Planned], str]] = {
        title: lambda row: row.name,
        "shape": lambda row: str(row.shape),
        "dtype": lambda row: str(row.dtype),
        **more,
        "on each device": lambda row: bytes_text(row.device_bytes),
    }
    largest = sorted(rows, key=lambda row: -row.device_bytes)
    shown = [[cell(row) for cell in columns.values()] for row in largest[:_SHOWN]]
    text = table(tuple(columns), shown, right=("on each device",))
    smaller = len(largest) - len(shown)
    return f"{text}\n... {smaller:,} more ..." if smaller else text


def plan(
    specs: Mapping[str, VariableSpec],
    mesh: AnyMesh | Mapping[str, int],
    rules: Rules,
    optimizer: Optimizer | None,
) -> Plan:
    """The plan of a training step; see `Declaration.plan`."""
    devices = abstract_mesh(mesh)
    shardings = named_shardings(specs, devices, rules)
    planned = {name: _planned(name, spec, shardings[name]) for name, spec in specs.items()}
    trainable = [name for name, spec in specs.items() if spec.trainable]
    state: tuple[Planned, ...] = ()
    if optimizer is not None:
        parameters = from_flat(
            {name: jax.ShapeDtypeStruct(specs[name].shape, specs[name].dtype) for name in trainable}
        )
        leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(optimizer.init, parameters))
        whole = NamedSharding(devices, PartitionSpec())
        state = tuple(
            _planned(
                jax.tree_util.keystr(path),
                leaf,
                _as_variable(path, leaf, planned, shardings, whole),
            )
            for path, leaf in leaves
        )
    return Plan(
        devices,
        tuple(planned[name] for name in trainable),
        tuple(row for name, row in planned.items() if not specs[name].trainable),
        state,
    )


def _planned(
    name: str, value: VariableSpec | jax.ShapeDtypeStruct, sharding: NamedSharding
) -> Planned:
    shard = jax.ShapeDtypeStruct(sharding.shard_shape(value.shape), value.dtype)
    sizes = value_bytes(value), value_bytes(shard)
    return Planned(name, tuple(value.shape), value.dtype, sharding.spec, *sizes)


def _as_variable(
    path: tuple[object, ...],
    leaf: jax.ShapeDtypeStruct,
    planned: Mapping[str, Planned],
    shardings: Mapping[str, NamedSharding],
    whole: NamedSharding,
) -> NamedSharding:
    """The planned sharding of an array of an optimizer: that of the variable it belongs to."""
    for entry in path:
        name = getattr(entry, "key", None)
        if isinstance(name, str) and name in planned and planned[name].shape == leaf.shape:
            return shardings[name]
    return whole


def _per_device(rows: Iterable[Planned]) -> int:
    return sum(row.device_bytes for row in rows)


def _summary(label: str, rows: tuple[Planned, ...]) -> tuple[str, ...]:
    replicated = _per_device(row for row in rows if row.is_whole)
    return (
        label,
        bytes_text(_per_device(rows)),
        bytes_text(replicated),
        bytes_text(sum(row.bytes for row in rows)),
    )
