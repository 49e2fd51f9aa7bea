"""From specs to values: initializing many variables, by groups of equal ones.

Only initializers run, never the model. A group is the variables of equal (initializer,
shape, dtype). There are three kinds:

* **Literal values** draw nothing, and nothing is compiled for them outside a trace.
* **Small draws** of all groups are computed together, by one program: see `batch`.
* **All others** compile one program for each group, so compile time does not grow with depth: large
  and sharded variables, generators other than threefry, initializers that aren't a map of
  independent numbers. The programs are compiled side by side.

The others have two routes to the same bits:

* Called outside any trace, each variable is one call of its group's compiled program with
  its name hash as an argument. (Tried: one loop over the group to a stacked
  array, then taking it apart by a compiled slice per variable. As many calls, twice the
  memory, no faster.)
* Under a user's jit, each group is one ``lax.map`` over the name hashes, so the graph doesn't
  grow with depth either (slice by slice it would: XLA would inline each). Barriers keep
  XLA from folding the hashes into constants and from fusing the initializer with its
  consumer, both of which change bits.

A stack is a loop over its slices' name hashes in either route, behind the same barriers, and has
the values of its slices as if they were variables of their own. Where shardings are given, each
device computes its own shard: the loop and the draws are partitioned by XLA, and nothing is
communicated (threefry; the generator of rbg runs whole on each device, then is cut).

A value depends on the root key and the variable's name only, so neither the groups nor
the route can be seen in it. Equal bits hold per backend and JAX version.
"""

import functools
import math
import types
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from .._errors import InitializerCycleError, InitializerError, near
from .._names.names import outward
from .._random.draws import Draw
from .._random.initializer_bases import KnownShape, Literal
from .._random.keys import Words, fold_words, gives_traced_keys, stack_words
from ..initializers import InitializedValue
from . import batch
from . import initial_value as _initial
from .closures import signature
from .placement import in_shards, new_arrays, placed, traceable
from .spec import Stack, VariableSpec

Group: TypeAlias = tuple[VariableSpec, NamedSharding | None, list[str]]


def initialize(
    specs: Mapping[str, VariableSpec],
    names: Collection[str],
    key: Array,
    given: Mapping[str, Any],
    shardings: Mapping[str, NamedSharding] = types.MappingProxyType({}),
) -> dict[str, Array]:
    """The initial values of many variables, by groups of equal ones.

    Args:
        specs: All declared variables.
        names: Those whose values are wanted.
        key: The root key.
        given: Values that exist, on which initial values of other variables may depend.
        shardings: How variables are sharded, where that is given.

    Raises:
        InitializerCycleError: If initial values depend on each other in a circle.
        InitializerError: If an initial value does not fit, or depends on no variable.
    """
    order = _dependencies_first(specs, names, given)
    plain = [name for name in order if not _is_dependent(specs[name])]
    values = _plain_values(_groups(specs, plain, shardings), specs, key)
    for name in order:
        if name not in values:
            source = _source(specs, name)
            there = values[source] if source in values else given[source]
            shared = common_stacks(specs[name].stack, specs[source].stack)
            values[name] = _initial.derive(name, specs[name], there, shared, shardings.get(name))
    return {name: values[name] for name in names}


def _plain_values(
    groups: Sequence[Group], specs: Mapping[str, VariableSpec], key: Array
) -> dict[str, Array]:
    """The initial values of the groups that depend on no other variable's value."""
    traced = gives_traced_keys(key)
    literals = [group for group in groups if isinstance(group[0].initializer, Literal)]
    rest = [group for group in groups if not isinstance(group[0].initializer, Literal)]
    draws = _draws_of(rest) if batch.accepts(key) else {}
    words = {name: stack_words(name, specs[name].stack) for *_, members in rest for name in members}

    values = (_traced_literals if traced else _literals)(literals, key)
    if draws:
        pieces = [batch.Piece(draws[name], words[name], specs[name].slice_shape) for name in draws]
        values.update(zip(draws, batch.drawn_together(key, pieces), strict=True))
    others = [group for group in rest if group[2][0] not in draws]
    values.update((_traced if traced else _computed)(others, words, key))
    return values


def _draws_of(groups: Sequence[Group]) -> dict[str, Draw]:
    """By name, the `Draw` of each variable, of all groups, that is drawn together with others."""
    draws: dict[str, Draw] = {}
    for spec, sharding, members in groups:
        if sharding is None:
            with _initial.errors_named(members[0]):
                slices = math.prod(spec.shape[: len(spec.stack)])
                draw = batch.draw_of(spec.initializer, spec.slice_shape, spec.dtype, slices)
            if draw is not None:
                draws.update(dict.fromkeys(members, draw))
    return draws


# Literal values.


def _literals(groups: Sequence[Group], key: Array) -> dict[str, Array]:
    """The initial values of groups of literals, outside any trace: nothing is compiled."""
    alone: dict[str, np.ndarray[Any, Any]] = {}
    values: dict[str, Array] = {}
    for spec, sharding, members in groups:
        with _initial.errors_named(members[0]):
            array = _initial.literal(spec)
        if sharding is None:
            alone.update(dict.fromkeys(members, array))
        else:
            values.update((name, in_shards(array, sharding)) for name in members)
    values.update(zip(alone, new_arrays(list(alone.values()), key), strict=True))
    return values


def _traced_literals(groups: Sequence[Group], key: Array) -> dict[str, Array]:
    """The initial values of groups of literals, in a trace."""
    values: dict[str, Array] = {}
    for spec, sharding, members in groups:
        value = _initial.traced_literal(members[0], spec, key, sharding)
        # One result for each: XLA would else return one buffer, or copy values one by one.
        values.update(zip(members, _initial.behind_barrier((value,) * len(members)), strict=True))
    return values


# All others, outside any trace.


def _computed(groups: Sequence[Group], words: Mapping[str, Words], key: Array) -> dict[str, Array]:
    """The initial values of groups, outside any trace: one call of a program for each variable."""
    calls = {name: _call(name, group, words[name], key) for group in groups for name in group[2]}
    if len(groups) > 1:
        _initial.compile_at_once([calls[members[0]] for *_, members in groups])
    return {name: _initial.run(*call) for name, call in calls.items()}


def _call(name: str, group: Group, words: Words, key: Array) -> _initial.Call:
    """The arguments by which one variable of a group is initialized."""
    spec, sharding, _ = group
    if sharding is not None:
        everywhere = NamedSharding(sharding.mesh, PartitionSpec())
        key = jax.device_put(key, traceable(everywhere))
    return name, spec.initializer, key, words, spec.slice_shape, spec.dtype, sharding


# All others, in a trace.


def _traced(groups: Sequence[Group], words: Mapping[str, Words], key: Array) -> dict[str, Array]:
    """The initial values of groups, in a trace."""
    values: dict[str, Array] = {}
    for group in groups:
        stacked = np.stack([words[name] for name in group[2]])
        values.update(zip(group[2], _in_graph(group, stacked, key), strict=True))
    return values


def _in_graph(group: Group, words: Words, key: Array) -> list[Array]:
    """The initial values of one group, in a trace: a loop over its name hashes."""
    spec, sharding, members = group
    if isinstance(spec.initializer, KnownShape):
        # The value is there, and traced: nothing is drawn.
        return [
            _initial.run(name, spec.initializer, key, own, spec.slice_shape, spec.dtype, sharding)
            for name, own in zip(members, words, strict=True)
        ]

    def one(key: Array, words: Words) -> Array:
        return _initial.uncompiled(
            members[0], spec.initializer, fold_words(key, words), spec.slice_shape, spec.dtype
        )

    def each(key: Array, words: Words) -> Array:
        return _initial.slices_in_turn(functools.partial(one, key), words, spec.slice_shape)

    together = None
    if sharding is not None:
        together = NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))
    stacked = placed(each, together, key, words)
    return [stacked[i] for i in range(len(members))]


def _groups(
    specs: Mapping[str, VariableSpec],
    names: Sequence[str],
    shardings: Mapping[str, NamedSharding],
) -> list[Group]:
    """The variables in groups that share a program: of equal initializer, shape and dtype."""
    groups: dict[Any, Group] = {}
    for name in names:
        spec, sharding = specs[name], shardings.get(name)
        lengths = spec.shape[: len(spec.stack)]
        key = (signature(spec.initializer), spec.slice_shape, spec.dtype, lengths, sharding)
        groups.setdefault(key, (spec, sharding, []))[2].append(name)
    return list(groups.values())


# Initial values that are those of other variables.


def common_stacks(a: Stack, b: Stack) -> int:
    """For initializing from another variable's value: the number of stacks that hold both."""
    same = [x == y for x, y in zip(a, b, strict=False)]
    return (*same, False).index(False)


def _is_dependent(spec: VariableSpec) -> bool:
    """Whether a variable's initial value is made from that of another."""
    return isinstance(spec.initializer, InitializedValue)


def _source(specs: Mapping[str, VariableSpec], name: str) -> str:
    """The variable from whose initial value that of ``name`` is made; looked up outward."""
    initializer = specs[name].initializer
    assert isinstance(initializer, InitializedValue)
    for candidate in outward(name, initializer.name):
        if candidate in specs and candidate != name:
            return candidate
    if initializer.name in (name, name.rpartition("/")[2]):
        raise InitializerCycleError(f"The initial value of {name!r} depends on itself.")
    raise InitializerError(
        f"The initial value of {name!r} is that of {initializer.name!r}, but no such variable is "
        f"declared, in its scope or around it ({near(initializer.name, tuple(specs))})."
    )


def _dependencies_first(
    specs: Mapping[str, VariableSpec], names: Collection[str], given: Mapping[str, Any]
) -> list[str]:
    """The names to initialize, and those they depend on, each after what it depends on."""
    order: dict[str, None] = {}
    wanted = set(names)
    for name in names:
        chain = [name]
        while _is_dependent(specs[chain[-1]]):
            source = _source(specs, chain[-1])
            if source in order or (source in given and source not in wanted):
                break
            if source in chain:
                circle = " -> ".join(map(repr, [*chain[chain.index(source) :], source]))
                raise InitializerCycleError(f"Initial values depend on each other: {circle}.")
            chain.append(source)
        order.update(dict.fromkeys(reversed(chain)))
    return list(order)
