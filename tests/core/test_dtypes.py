import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_numbers import ALL, KIND, edges, exact, rounded

import jscope as js
from jscope._dtypes import can_convert, converted


def test_the_dtypes_of_these_tests_are_all_that_jax_has():
    scalars = [getattr(jnp, name) for name in dir(jnp)]
    dtypes = [getattr(scalar, "dtype", None) for scalar in scalars if not hasattr(scalar, "shape")]
    assert {dtype.name for dtype in dtypes if isinstance(dtype, np.dtype)} == set(ALL)


def test_numbers_go_to_the_same_kind_or_a_later_one():
    for found in ALL:
        for wanted in ALL:
            assert can_convert(found, wanted) == (KIND[found] <= KIND[wanted]), (found, wanted)
    assert not can_convert(jax.random.key(0).dtype, jnp.uint32)
    assert not can_convert(jnp.uint32, jax.random.key(0).dtype)


@pytest.mark.parametrize("found", ALL)
def test_a_conversion_is_the_nearest_number_or_an_error(found):
    array = edges(found)
    for wanted in ALL:
        if found == wanted or not can_convert(found, wanted):
            continue
        expected = [rounded(number, wanted) for number in exact(array)]
        is_held = np.array([number is not None for number in expected])
        result, lost = converted(array[is_held], wanted)
        assert (result.dtype, lost.count) == (wanted, 0)
        assert exact(result) == [number for number in expected if number is not None], wanted
        lost = converted(array, wanted)[1]
        assert lost.count == (~is_held).sum(), wanted
        if lost.count:
            example = np.array([lost.example])
            assert example.dtype == found
            assert exact(example)[0] in exact(array[~is_held]), wanted


@pytest.mark.parametrize("wanted", ["bfloat16", "float16", "float8_e4m3fn", "float8_e8m0fnu"])
def test_what_is_not_contiguous_or_has_no_axes_is_converted_as_well(wanted):
    array = np.arange(1, 25, dtype=np.float64).reshape(2, 3, 4)
    for given in (array.T, array[:, ::2], array[0, 0, 0], array[:0]):
        result, lost = converted(np.asarray(given), wanted)
        assert lost.count == 0
        assert exact(result.reshape(-1)) == [rounded(n, wanted) for n in exact(given.reshape(-1))]
        assert result.shape == np.shape(given)


def test_beside_its_result_a_conversion_needs_little_memory():
    array = np.ones(1 << 24, np.float32)  # 64 MiB
    tracemalloc.start()
    converted(array, "bfloat16")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (32 + 4) << 20


# Through the Saver.

HELD_BY_JAX = [name for name in ALL if not name.startswith("float6") or jax.__version__ >= "0.11"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    saver = js.Saver(tmp_path_factory.mktemp("edges"))
    saver.save({name: edges(name) for name in ALL}, 1)
    return saver


@pytest.mark.parametrize("wanted", HELD_BY_JAX)
def test_a_restore_tells_of_all_variables_that_the_target_cannot_hold(saved, wanted):
    arrays = {name: edges(name) for name in ALL if KIND[name] <= KIND[wanted]}
    lost = {
        name: sum(rounded(number, wanted) is None for number in exact(array))
        for name, array in arrays.items()
        if name != wanted
    }
    target = {name: jax.ShapeDtypeStruct(array.shape, wanted) for name, array in arrays.items()}
    if any(lost.values()):
        with pytest.raises(js.TreeMismatchError) as error:
            saved.restore(target, convert=True, unexpected="ignore")
        for name, count in lost.items():
            text = f"{name!r} can't be converted from {name} to {wanted}"
            line = f"{text}, which can't hold {count:,} of its {arrays[name].size:,} values"
            assert (line in str(error.value)) == (count > 0)
    held = {name: leaf for name, leaf in target.items() if not lost.get(name)}
    restored = saved.restore(held, convert=True, unexpected="ignore")
    for name in held:
        result = np.asarray(restored[name])
        assert exact(result) == [rounded(number, wanted) for number in exact(arrays[name])] or (
            name == wanted
        )


def test_a_whole_number_of_python_is_the_same_number_or_an_error(tmp_path):
    saver = js.Saver(tmp_path)
    saver.save({"n": 2**53 + 1, "large": 2**70, "huge": 10**400}, 1)
    for name, wanted in (
        ("n", 0.0),
        ("n", 0j),
        ("n", jax.ShapeDtypeStruct((), jnp.float32)),
        ("large", jax.ShapeDtypeStruct((), np.int64)),
        ("huge", 0.0),
        ("huge", jax.ShapeDtypeStruct((), jnp.float32)),
    ):
        with pytest.raises(
            js.TreeMismatchError, match=f"{name!r} can't be converted from python int"
        ):
            saver.restore({name: wanted}, convert=True, unexpected="ignore")
    target = {
        "n": jax.ShapeDtypeStruct((), np.uint64),
        "large": jax.ShapeDtypeStruct((), jnp.float32),
    }
    restored = saver.restore(target, convert=True, unexpected="ignore")
    assert (int(restored["n"]), float(restored["large"])) == (2**53 + 1, 2.0**70)


def test_the_error_says_what_to_write_and_that_runs(tmp_path):
    saver = js.Saver(tmp_path)
    saver.save({"ids": np.int32([1, 16777217, -16777219]), "w": np.float32(1)}, 1)
    target = {
        name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in (("ids", (3,)), ("w", ()))
    }
    with pytest.raises(js.TreeMismatchError) as error:
        saver.restore(target, convert=True)
    assert str(error.value) == (
        "convert=True would change values of 1 variable; nothing was restored.\n"
        "  'ids' can't be converted from int32 to float32, which can't hold 2 of its 3 values, "
        "such as 16777217\n"
        "Only floating-point numbers are rounded. Give the target dtypes that hold the values, as "
        "those that were saved do, and change the result; or leave them out by select=."
    )
    restored = saver.restore(target | {"ids": jax.ShapeDtypeStruct((3,), np.int32)}, convert=True)
    assert restored["ids"].tolist() == [1, 16777217, -16777219]


def test_a_sharded_array_is_counted_once(tmp_path):
    saver = js.Saver(tmp_path)
    saver.save({"x": np.arange(-4, 4, dtype=np.int32)}, 1)
    mesh = jax.make_mesh((4, 2), ("a", "b"))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("a"))
    with pytest.raises(
        js.TreeMismatchError, match="uint8, which can't hold 4 of its 8 values, such as -"
    ):
        saver.restore({"x": jax.ShapeDtypeStruct((8,), np.uint8, sharding=sharding)}, convert=True)
