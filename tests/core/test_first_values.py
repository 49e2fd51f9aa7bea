"""The first initial values of a process: which programs are compiled for them, and their bits."""

import json
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.random import threefry_2x32

import jscope as js
from jscope import initializers as init
from jscope._random import threefry
from jscope._random.keys import fold_words, name_words, variable_key
from jscope._variables import batch

KEY = jax.random.key(11)
DTYPES = ("float32", "bfloat16", "float16")


def bits(tree):
    return {name: (str(v.dtype), v.shape, np.asarray(v).tobytes()) for name, v in tree.items()}


# The bits are JAX's.


def test_the_hash_is_jax_s():
    random = np.random.default_rng(0)
    key = random.integers(0, 2**32, 2, np.uint32)
    blocks = random.integers(0, 2**32, (2, 50), np.uint32)
    expected = np.asarray(threefry_2x32((key[0], key[1]), jnp.asarray(blocks.reshape(-1))))
    numpy = threefry.threefry((key[:1], key[1:]), (blocks[0], blocks[1]))
    np.testing.assert_array_equal(np.concatenate(numpy), expected)
    traced = jax.jit(lambda k, b: threefry.threefry((k[:1], k[1:]), (b[0], b[1])))(key, blocks)
    np.testing.assert_array_equal(jnp.concatenate(traced), expected)


def test_random_bits_of_an_element_are_jax_s():
    counters = jnp.arange(3000, dtype=jnp.uint32)
    data = jax.random.key_data(KEY)
    found = threefry.random_bits((data[:1], data[1:]), counters)
    np.testing.assert_array_equal(found, jax.random.bits(KEY, (3000,), jnp.uint32))


@pytest.mark.parametrize("root", [KEY, jax.random.PRNGKey(3)], ids=["typed", "old"])
def test_keys_of_many_names_are_those_of_each(root):
    words = np.stack([name_words(f"layer_{i}/w") for i in range(20)])
    for found, own in zip(threefry.threefry_keys(root, words), words, strict=True):
        np.testing.assert_array_equal(found, jax.random.key_data(fold_words(root, own)))


def normal(key, shape, dtype, mean, stddev):
    drawn = jax.nn.initializers.normal(stddev)(key, shape, jnp.float32)
    return (drawn + mean).astype(dtype)


def truncated_normal(key, shape, dtype, mean, stddev):
    drawn = jax.nn.initializers.truncated_normal(stddev)(key, shape, jnp.float32)
    return (drawn + mean).astype(dtype)


def uniform(key, shape, dtype, low, high):
    drawn = jax.random.uniform(key, shape, jnp.float32, low, high).astype(dtype)
    return jnp.minimum(drawn, np.nextafter(np.asarray(high, dtype), np.asarray(low, dtype)))


def scaled(draw, scale, mode, widen=1.0):
    """Of variance ``scale / n``."""

    def values(key, shape, dtype):
        n = {"fan_in": shape[0], "fan_out": shape[1], "fan_avg": sum(shape) / 2}[mode]
        stddev = float(np.sqrt(scale / n)) * widen
        low_or_mean = -stddev if draw is uniform else 0.0
        return draw(key, shape, dtype, low_or_mean, stddev)

    return values


WIDER = 1 / 0.87962566103423978  # than a normal that is truncated at two standard deviations
AS_JAX = [
    (init.random_normal(0.0, 0.02), lambda *a: normal(*a, 0.0, 0.02)),
    (init.random_normal(0.3, 1.7), lambda *a: normal(*a, 0.3, 1.7)),
    (init.truncated_normal(0.0, 0.02), lambda *a: truncated_normal(*a, 0.0, 0.02)),
    (init.truncated_normal(-2.0, 0.7), lambda *a: truncated_normal(*a, -2.0, 0.7)),
    (init.random_uniform(), lambda *a: uniform(*a, 0.0, 1.0)),
    (init.random_uniform(-0.1, 0.3), lambda *a: uniform(*a, -0.1, 0.3)),
    (init.he_normal(), scaled(truncated_normal, 2.0, "fan_in", WIDER)),
    (init.glorot_normal(), scaled(truncated_normal, 1.0, "fan_avg", WIDER)),
    (init.glorot_uniform(), scaled(uniform, 1.0, "fan_avg", math.sqrt(3))),
    (init.lecun_uniform(), scaled(uniform, 1.0, "fan_in", math.sqrt(3))),
    (init.uniform_unit_scaling(2.0), scaled(uniform, 3.0, "fan_in", 2.0)),
    (init.variance_scaling(2.0, "fan_out", "untruncated_normal"), scaled(normal, 2.0, "fan_out")),
]
SHAPES = ((9, 7), (1, 1), (64, 16), (45, 50))  # of one row and of three, full and not


def drawn_model(scope):
    for i, (initializer, _) in enumerate(AS_JAX):
        for dtype in DTYPES:
            for shape in SHAPES:
                name = f"v{i}/{dtype}/{shape[0]}x{shape[1]}"
                scope.get_variable(name, shape, dtype, initializer)


DRAWN = js.declare(drawn_model)()


def test_drawn_together_they_are_the_bits_of_each_alone_in_jax():
    """Of compiled JAX functions that draw one variable, from the key of its name."""
    found = DRAWN.init(KEY)
    for i, (_, of_one) in enumerate(AS_JAX):
        for shape in SHAPES:
            names = [f"v{i}/{dtype}/{shape[0]}x{shape[1]}" for dtype in DTYPES]
            keys = [variable_key(KEY, name) for name in names]
            together = jax.jit(
                lambda keys, of_one=of_one, shape=shape: [
                    jax.lax.optimization_barrier(of_one(key, shape, np.dtype(dtype)))
                    for key, dtype in zip(keys, DTYPES, strict=True)
                ]
            )(keys)
            expected = dict(zip(names, together, strict=True))
            assert bits({name: found[name] for name in names}) == bits(expected)


def test_a_program_of_the_variable_s_own_shape_gives_the_same_bits(monkeypatch):
    chosen = ["v[1346]/float32/45x50", "v[05]/bfloat16/9x7", "v11/float16/64x16"]
    with jax.checking_leaks():
        together = DRAWN.init(KEY, only=chosen)
    monkeypatch.setattr(batch, "LARGEST", 0)
    alone = DRAWN.init(KEY, only=chosen)
    assert len(alone) == 7
    assert bits(together) == bits(alone)


def test_under_jit_they_are_the_same_bits():
    expected = bits(DRAWN.init(KEY))
    with jax.checking_leaks():
        assert bits(jax.jit(DRAWN.init)(KEY)) == expected
    name = "v1/bfloat16/9x7"
    one = jax.jit(lambda key: DRAWN.init(key, only=name))(KEY)
    assert bits(one)[name] == expected[name]


def test_more_rows_than_a_loop_computes_are_several_loops(monkeypatch):
    chosen = ["v[01]/float32/*", "v2/float16/9x7"]
    expected = bits(DRAWN.init(KEY, only=chosen))
    monkeypatch.setattr(batch, "MOST_ROWS", 4)
    assert bits(jax.jit(lambda key: DRAWN.init(key, only=chosen))(KEY)) == expected


@pytest.mark.parametrize("initializer", [init.random_normal(0.5, 0.1), init.random_uniform()])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_in_the_same_program_sees_them_rounded(initializer, dtype):
    """Else the product with the standard deviation and the sum were one instruction."""
    declared = js.declare(lambda s: s.get_variable("w", (30, 70), dtype, initializer))()

    def use(w):
        return w.astype(jnp.float32) * 3.0 + 1.0

    w, used = jax.jit(lambda key: (declared.init(key)["w"], use(declared.init(key)["w"])))(KEY)
    assert bits({"w": w}) == bits(declared.init(KEY))
    np.testing.assert_array_equal(used, jax.jit(use)(w))


sizes = st.lists(
    st.tuples(st.sampled_from([(), (1,), (1023,), (1024,), (1025,), (3, 5, 7), (64, 64)]),
              st.integers(0, len(AS_JAX) - 1)),
    min_size=1,
    max_size=12,
)  # fmt: skip


@settings(max_examples=25)
@given(sizes, st.integers(0, 2))
def test_who_is_drawn_with_whom_changes_nothing(variables, stack):
    def model(scope):
        for i, (shape, which) in enumerate(variables):
            scope.get_variable(f"{i}/w", shape, initializer=AS_JAX[which][0])

    def stacked(scope):
        jax.lax.scan(lambda c, s: (c, model(s)), 0, scope.stacked("stack", stack))

    declared = js.declare(model)()
    whole = declared.init(KEY)
    name = f"{len(variables) - 1}/w"
    assert bits(declared.init(KEY, only=name)) == {name: bits(whole)[name]}
    if stack:
        found = js.unstack(js.declare(stacked)().init(KEY), "stack")
        loop = js.declare(lambda s: [model(s / f"stack/{i}") for i in range(stack)])()
        assert bits(found) == bits(loop.init(KEY))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_without_partitionable_threefry_each_is_drawn_as_jax_draws_then(wrap):
    """Then the bits of an element depend on the shape."""
    initializer = init.random_uniform()
    model = js.declare(lambda s: s.get_variable("w", (9, 7), initializer=initializer))()
    with jax.threefry_partitionable(False):
        found = wrap(model.init)(KEY)["w"]
        expected = jax.random.uniform(variable_key(KEY, "w"), (9, 7))
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, model.init(KEY)["w"])


def test_values_are_where_the_key_is():
    def model(scope):
        scope.get_variable("drawn", (9, 7))
        scope.get_variable("zeros", (3,), initializer=init.zeros)
        scope.get_variable("given", initializer=np.arange(5))
        scope.get_variable("orthogonal", (4, 4), initializer=init.orthogonal())

    declared, device = js.declare(model)(), jax.devices()[3]
    here = declared.init(KEY)
    there = declared.init(jax.device_put(KEY, device))
    for name, value in there.items():
        assert value.devices() == {device}, name
        assert value.committed, name
        assert not here[name].committed, name
    assert bits(here) == bits(there)


def test_an_error_in_a_draw_names_the_variable():
    def model(scope):
        scope.get_variable("a/w", (3, 3), jnp.int32, init.he_normal())

    for wrap in (lambda f: f, jax.jit):
        with pytest.raises(js.InitializerError, match=r"Variable 'a/w': he_normal\(\) gives float"):
            wrap(js.declare(model)().init)(KEY)


# What is compiled.

COUNTING = """
import collections, json, sys
import jax, jax.numpy as jnp, numpy as np
from jax import monitoring
counts = collections.Counter()
monitoring.register_event_listener(lambda event, **_: counts.update([event.split("/")[-1]]))
monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: counts.update([event.split("/")[-1]]))
import jscope as js
from jscope import initializers as init
key = jax.random.key(0)

def literals(scope):
    for n in range(1, 9):
        scope.get_variable(f"zeros_{n}", (n, n), initializer=init.zeros)
        scope.get_variable(f"ones_{n}", (n,), jnp.bfloat16, init.ones)
        scope.get_variable(f"constant_{n}", (n, 2), initializer=init.constant(0.5))
        scope.get_variable(f"list_{n}", (n,), initializer=init.constant([1, 2, 3][:n]))
        scope.get_variable(f"value_{n}", initializer=np.arange(n))
        scope.get_variable(f"identity_{n}", (n, n + 1), initializer=init.identity())

def small(scope):
    literals(scope)
    for n in range(1, 9):
        scope.get_variable(f"normal_{n}", (n, 5), initializer=init.random_normal(0.0, n / 9))
        scope.get_variable(f"truncated_{n}", (n, 6), jnp.bfloat16, init.truncated_normal(n))
        scope.get_variable(f"uniform_{n}", (n, 7), initializer=init.random_uniform(-n, n))
        scope.get_variable(f"default_{n}", (n, 99))
    layers = scope.stacked("layers", 9)
    jax.lax.scan(lambda c, s: (c, s.get_variable("w", (90, 9))), 0, layers)

def others(scope):
    for n in range(2, 5):
        scope.get_variable(f"orthogonal_{n}", (n, n), initializer=init.orthogonal())
        scope.get_variable(f"jax_{n}", (n, n), initializer=jax.nn.initializers.he_normal())

models = {"literals": literals, "small": small, "others": others}
found = {}
for name in sys.argv[1:]:
    counts.clear()
    declared = js.declare(models[name.removeprefix("jitted ")])()
    run = jax.jit(declared.init) if name.startswith("jitted ") else declared.init
    jax.block_until_ready(run(key))
    found[name] = dict(counts)
print(json.dumps(found))
"""


def counts(*names, **environment):
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, *names],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "XLA_FLAGS": "", **environment},
    )
    return json.loads(done.stdout)


COMPILED = "backend_compile_duration"


def test_literals_compile_nothing_and_a_small_model_at_most_two_programs():
    found = counts("literals", "small", "others", JAX_ENABLE_COMPILATION_CACHE="false")
    assert COMPILED not in found["literals"]
    assert 1 <= found["small"][COMPILED] <= 2
    assert found["others"][COMPILED] == 6  # one each


def test_a_cache_on_disk_leaves_nothing_to_compile(tmp_path):
    cache = {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    names = ("small", "jitted small", "others")
    first, second = counts(*names, **cache), counts(*names, **cache)
    for name in names:
        assert first[name]["cache_misses"] >= 1
        assert "cache_misses" not in second[name]
        assert second[name]["cache_hits"] == first[name]["cache_misses"]
