"""Initial values: the same bits by every route, one program per group, no shared buffers."""

import functools
import hashlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keys_by_definition import key_by_definition

import jscope as js
from jscope import initializers as init
from jscope._errors import (
    InitializerCycleError,
    InitializerError,
    KeyArgumentError,
    SelectorError,
    TreeMismatchError,
)
from jscope._variables import initialize as _initialize

KEY = jax.random.key(0)


def keys(seed=7):
    return {
        "threefry2x32": jax.random.key(seed, impl="threefry2x32"),
        "rbg": jax.random.key(seed, impl="rbg"),
        "unsafe_rbg": jax.random.key(seed, impl="unsafe_rbg"),
        "old": jax.random.PRNGKey(seed),
    }


def bits(tree):
    return {name: (str(v.dtype), v.shape, np.asarray(v).tobytes()) for name, v in tree.items()}


FLOATS = {
    "zeros": init.zeros,
    "ones": init.ones,
    "constant": init.constant(2.5),
    "fill": init.fill(-1.5),
    "random_uniform": init.random_uniform(-1, 1),
    "random_normal": init.random_normal(0.0, 0.02),
    "truncated_normal": init.truncated_normal(0.0, 0.02),
    "uniform_unit_scaling": init.uniform_unit_scaling(),
    "variance_scaling": init.variance_scaling(2.0, "fan_out", "untruncated_normal"),
    "he_normal": init.he_normal(),
    "lecun_uniform": init.lecun_uniform(),
    "orthogonal": init.orthogonal(),
    "identity": init.identity(),
    "jax_he_normal": jax.nn.initializers.he_normal(),
}
FILTERS = {
    "delta_orthogonal": (init.delta_orthogonal(), (3, 3, 2, 3)),
    "convolutional_orthogonal_2d": (init.convolutional_orthogonal_2d(), (3, 3, 2, 3)),
}
INTEGERS = {
    "random_uniform": init.random_uniform(3, 40),
    "categorical": init.categorical(np.log(np.full((9, 3), [0.2, 0.3, 0.5], np.float32))),
}


def zoo(scope):
    """Every initializer, in several dtypes."""
    for layer in range(2):
        at = scope / f"layer_{layer}"
        for name, initializer in FLOATS.items():
            at.get_variable(f"{name}/f32", (9, 7), jnp.float32, initializer)
        for name, (initializer, shape) in FILTERS.items():
            at.get_variable(f"{name}/f32", shape, jnp.float32, initializer)
        for dtype in (jnp.bfloat16, jnp.float16):
            name = f"truncated_normal/{np.dtype(dtype).name}"
            at.get_variable(name, (9, 7), dtype, init.truncated_normal())
        for name, initializer in INTEGERS.items():
            at.get_variable(f"{name}/i32", (9, 7), jnp.int32, initializer)
        at.get_variable("range/value", initializer=init.range(5))
        at.get_variable("linspace/value", initializer=init.linspace(0.0, 1.0, 5))
        at.get_variable("copied/value", (9, 7), initializer=init.initialized_value("he_normal/f32"))


def some(scope):
    """A few that compile fast."""
    for layer in range(3):
        at = scope / f"layer_{layer}"
        at.get_variable("w", (9, 7), initializer=init.random_uniform(-1, 1))
        at.get_variable("half", (9, 7), jnp.bfloat16, init.random_normal(0.0, 0.02))
        at.get_variable("ids", initializer=np.arange(9))


@functools.cache
def eager(model, impl):
    return js.declare(model)().init(keys()[impl])


# The bits.


def test_the_zoo_has_every_initializer():
    makers = {n for n in init.__all__ if n[0].islower()} - {"default", "initialized_value"}
    used = {type(spec.initializer).__name__ for spec in js.declare(zoo)().values()}
    used |= {name for group in (FLOATS, INTEGERS) for name in group}
    # What is left runs the code of one that is there, with other parameters.
    scaled = {"glorot_uniform", "glorot_normal", "he_uniform", "lecun_normal"}
    filters = {"convolutional_orthogonal_1d", "convolutional_orthogonal_3d"}
    assert makers - used == scaled | filters
    assert {type(getattr(init, name)()) for name in scaled} == {init.variance_scaling}
    calls = {getattr(init, name)._draw for name in filters}
    assert calls == {init.convolutional_orthogonal_2d._draw}


def test_every_initializer_gives_the_same_bits_in_one_graph():
    declared = js.declare(zoo)()
    expected = bits(eager(zoo, "threefry2x32"))
    with jax.checking_leaks():
        found = jax.jit(declared.init)(keys()["threefry2x32"])
    assert bits(found) == expected


@pytest.mark.parametrize("impl", keys())
def test_the_bits_do_not_depend_on_the_route(impl):
    key, declared = keys()[impl], js.declare(some)()
    expected = eager(some, impl)
    routes = {
        "jit": jax.jit(js.init(some))(key),
        "one by one": js.VarTree({n: declared.init(key, only=n)[n] for n in declared}),
        "given": declared.init(key, given=js.select(expected, "layer_1/**")),
        "all but one": js.VarTree(
            {n: declared.init(key, given=js.drop(expected, n))[n] for n in declared}
        ),
    }
    if impl == "threefry2x32":
        one = jax.jit(lambda k: declared.init(k, only="layer_1/half"))(key)
        routes["jit of one"] = expected | one
        routes["a constant key"] = jax.jit(lambda: declared.init(key))()
    for route, found in routes.items():
        assert bits(found) == bits(expected), route


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_the_zoo_of_other_generators(impl):
    def model(scope):
        scope.get_variable("orthogonal", (9, 7), initializer=init.orthogonal())
        scope.get_variable("half", (9, 7), jnp.float16, init.truncated_normal())

    declared, key = js.declare(model)(), keys()[impl]
    assert bits(jax.jit(declared.init)(key)) == bits(declared.init(key))


def test_a_consumer_in_the_same_program_sees_the_same_bits():
    """Without a barrier, XLA fuses and a bfloat16 consumer sees float32 values: 2e-3 apart."""

    def use(values):
        return {n: jnp.sin(v.astype(jnp.float32) * 3) for n, v in values.items()}

    declared = js.declare(some)()
    values, used = jax.jit(lambda k: (declared.init(k), use(declared.init(k))))(KEY)
    assert bits(values) == bits(declared.init(KEY))
    assert bits(used) == bits({n: jax.jit(use)({n: v})[n] for n, v in values.items()})


@pytest.mark.parametrize(("impl", "wrap"), [("threefry2x32", jax.jit), ("old", lambda f: f)])
def test_many_models_at_once_are_the_single_ones(impl, wrap):
    declared = js.declare(some)()
    many = jax.random.split(keys()[impl], 3)
    found = wrap(jax.vmap(declared.init))(many)
    for i in range(3):
        assert bits({n: v[i] for n, v in found.items()}) == bits(declared.init(many[i]))


def test_other_transforms_give_the_same_bits():
    declared, expected = js.declare(some)(), bits(eager(some, "threefry2x32"))
    key = keys()["threefry2x32"]
    assert bits(jax.checkpoint(declared.init)(key)) == expected
    scanned = jax.lax.scan(lambda c, k: (c, declared.init(k)), 0, key[None])[1]
    assert bits({n: v[0] for n, v in scanned.items()}) == expected


SCRIPT = """
import sys, jax, numpy as np, hashlib
sys.path[:0] = sys.argv[1:]
import test_initialize as t
tree = t.js.declare(t.some)().init(t.keys()["threefry2x32"])
print(hashlib.sha256(repr(sorted(t.bits(tree).items())).encode()).hexdigest())
"""


def test_another_process_gets_the_same_bits():
    here = os.path.dirname(os.path.abspath(__file__))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, here, os.path.dirname(here)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = repr(sorted(bits(eager(some, "threefry2x32")).items())).encode()
    assert done.stdout.strip() == hashlib.sha256(expected).hexdigest()


def test_a_value_is_the_compiled_initializer_of_the_name_s_key():
    initializer = jax.nn.initializers.normal(1.0)
    found = js.init(lambda s: (s / "a/b").get_variable("w", (9, 7), initializer=initializer))(KEY)
    expected = jax.random.normal(key_by_definition(KEY, "a", "b", "w"), (9, 7), jnp.float32)
    np.testing.assert_allclose(found["a/b/w"], expected, rtol=1e-6)


@settings(max_examples=15)
@given(st.permutations(["a", "b", "c/d", "c/e", "zz"]), st.integers(1, 5))
def test_order_insertion_and_siblings_change_nothing(order, count):
    def model(scope, names):
        for name in names:
            (scope / name).get_variable("w", (4,), initializer=init.random_normal(0.0, 1.0))

    whole = js.init(model)(KEY, ["a", "b", "c/d", "c/e", "zz"])
    part = js.init(model)(KEY, order[:count])
    assert set(part) == {f"{name}/w" for name in order[:count]}
    assert bits(part) == {n: b for n, b in bits(whole).items() if n in part}


def test_different_names_and_roots_give_different_values():
    declared = js.declare(lambda s: [s.get_variable(f"v{i}", (4,)) for i in range(50)])()
    values = [declared.init(jax.random.key(seed)) for seed in (0, 1)]
    drawn = {np.asarray(v).tobytes() for tree in values for v in tree.values()}
    assert len(drawn) == 100


def test_the_device_s_64_bit_dtypes():
    with jax.enable_x64(True):

        def model(scope):
            scope.get_variable("w", (5, 3), jnp.float64, init.random_uniform())
            scope.get_variable("n", initializer=1 << 40)

        declared, key = js.declare(model)(), jax.random.key(1)
        assert bits(jax.jit(declared.init)(key)) == bits(declared.init(key))
        assert declared.init(key)["w"].dtype == np.float64
        assert declared.init(key)["n"] == 1 << 40


# Groups.


def counting(shape_of_calls):
    """An initializer that counts its traces, made anew on each call as jax.nn's are."""

    def make(scale):
        def initializer(key, shape, dtype):
            shape_of_calls.append(shape)
            return jax.random.normal(key, shape, dtype) * jnp.asarray(scale, dtype)

        return initializer

    return make


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_equal_variables_are_one_group_and_one_trace(wrap):
    calls = []
    make = counting(calls)

    def model(scope):
        for i in range(6):
            at = scope / f"layer_{i}"
            at.get_variable("a", (3,), initializer=make(0.5))
            at.get_variable("b", (3,), initializer=make(2.0))
            at.get_variable("c", (4,), initializer=make(0.5))
            at.get_variable("d", (4,), jnp.float16, initializer=make(0.5))

    wrap(js.init(model))(KEY)
    assert len(calls) == 4


def spec(initializer):
    return js.declare(lambda s: s.get_variable("w", (4, 4), initializer=initializer))()["w"]


def groups(*initializers):
    specs = {f"v{i}": spec(initializer) for i, initializer in enumerate(initializers)}
    return [members for *_, members in _initialize._groups(specs, list(specs), {})]


def draw(key, shape, dtype, scale=1.0, *, shift=0.0):
    return jax.random.normal(key, shape, dtype) * scale + shift


def closure(value):
    return lambda key, shape, dtype: draw(key, shape, dtype, value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: init.random_normal(0.0, 0.02),
        lambda: init.random_normal(0, 0.02),
        lambda: init.constant([1, 2, 3]),
        jax.nn.initializers.he_normal,
        jax.nn.initializers.orthogonal,
        lambda: jax.nn.initializers.constant(2.0),
        lambda: functools.partial(draw, scale=2.0),
        lambda: functools.partial(draw, shift=0.5),
        lambda: closure(0.5),
        lambda: closure(functools.partial(draw, scale=2.0)),
        lambda: closure((1, (2.0, "x"))),
        lambda: lambda key, shape, dtype: jnp.ones(shape, dtype),
    ],
)
def test_what_computes_the_same_is_one_group(make):
    assert groups(make(), make(), make()) == [["v0", "v1", "v2"]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (init.random_normal(0.0, 0.02), init.random_normal(0.0, 0.03)),
        (init.random_normal(0.0, 1.0), init.truncated_normal(0.0, 1.0)),
        (init.constant(0.0), init.constant(-0.0)),
        (jax.nn.initializers.he_normal(), jax.nn.initializers.he_uniform()),
        (functools.partial(draw, scale=2.0), functools.partial(draw, scale=3.0)),
        (functools.partial(draw, scale=2.0), functools.partial(draw, shift=2.0)),
        (closure(1.0), closure(1)),
        (closure(1), closure(True)),
        (closure(0.0), closure(-0.0)),
        (closure([1.0]), closure([1.0])),  # what can be changed equals itself alone
        (closure(np.ones(2)), closure(np.ones(2))),
        (lambda k, s, d: jnp.ones(s, d), lambda k, s, d: jnp.ones(s, d) * 1),
    ],
)
def test_what_may_compute_something_else_is_not(one, other):
    assert groups(one, other) == [["v0"], ["v1"]]


def test_functions_that_refer_to_themselves_have_groups():
    def make():
        def one(key, shape, dtype, depth=0):
            return other(key, shape, dtype) if depth == 0 else jnp.ones(shape, dtype)

        def other(key, shape, dtype):
            return one(key, shape, dtype, 1)

        return one

    def unset():
        def initializer(key, shape, dtype):
            return jnp.ones(shape, dtype) if True else later

        return initializer
        later = 3  # never reached: the closure's cell has no value

    for initializer in (make(), unset()):
        assert groups(initializer) == [["v0"]]
        found = js.init(lambda s, i=initializer: s.get_variable("w", 2, initializer=i))(KEY)
        np.testing.assert_array_equal(found["w"], [1.0, 1.0])


# Buffers.


def pointers(tree):
    return [v.unsafe_buffer_pointer() for v in tree.values()]


def with_equal_values(scope):
    for i in range(3):
        scope.get_variable(f"zeros_{i}", (300,), initializer=init.zeros)
        scope.get_variable(f"value_{i}", initializer=np.arange(300, dtype=np.float32))
        scope.get_variable(f"copy_{i}", (300,), initializer=init.initialized_value("zeros_0"))
        same = init.initialized_value("zeros_0", lambda x: x)
        scope.get_variable(f"same_{i}", (300,), initializer=same)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_no_two_variables_share_a_buffer(wrap):
    variables = wrap(js.init(with_equal_values))(KEY)
    assert len(set(pointers(variables))) == len(variables) == 12


def test_nothing_is_shared_with_given_nor_with_initial_values():
    value = jnp.arange(300.0)
    numpy = np.arange(300, dtype=np.float32)

    def model(scope):
        for name in "abcd":
            scope.get_variable(name, (300,))
        scope.get_variable("value", initializer=value)
        scope.get_variable("numpy", initializer=numpy)

    given = js.VarTree({"a": value, "b": value, "c": numpy})
    declared = js.declare(model)()
    found = declared.init(KEY, given=given)
    theirs = {value.unsafe_buffer_pointer(), numpy.ctypes.data}
    assert len({*pointers(found), *theirs}) == 8
    assert all(isinstance(v, jax.Array) for v in found.values())
    numpy[:] = -1
    np.testing.assert_array_equal(found["c"], np.arange(300))
    np.testing.assert_array_equal(found["numpy"], np.arange(300))
    kept = declared.init(KEY, given=given, donate_given=True)
    assert kept["a"] is value


def test_a_donated_step_works_after_init_and_leaves_given_alone():
    declared = js.declare(with_equal_values)()
    given = js.VarTree({"zeros_1": jnp.zeros(300)})
    variables = declared.init(KEY, given=given)
    step = jax.jit(lambda v: jax.tree.map(lambda x: x + 1, v), donate_argnums=0)
    variables = step(step(variables))
    np.testing.assert_array_equal(variables["zeros_1"], np.full(300, 2.0))
    np.testing.assert_array_equal(given["zeros_1"], np.zeros(300))


# given= and only=.


def test_given_variables_are_kept_and_the_rest_initialised():
    declared = js.declare(some)()
    given = js.VarTree({"layer_1/w": jnp.full((9, 7), 3.0), "layer_2/ids": jnp.arange(1, 10)})
    found = declared.init(keys()["threefry2x32"], given=given)
    assert list(found) == sorted(declared)
    assert bits(js.select(found, given)) == bits(given)
    rest = js.drop(found, given)
    assert bits(rest) == bits(js.select(eager(some, "threefry2x32"), rest))
    assert declared.init(KEY, given=found) == found


def test_only_initialises_exactly_what_it_picks():
    declared = js.declare(some)()
    whole = eager(some, "threefry2x32")
    key = keys()["threefry2x32"]
    assert bits(declared.init(key, only="layer_1/**")) == bits(js.select(whole, "layer_1/**"))
    given = js.VarTree({"layer_1/w": jnp.full((9, 7), 3.0), "layer_0/w": jnp.full((9, 7), 3.0)})
    found = declared.init(key, given=given, only=["layer_1/**"])
    assert bits(found) == bits(js.select(whole, "layer_1/**") | js.select(given, "layer_0/w"))
    assert bits(declared.init(key, only=declared.trainable)) == bits(whole)
    with pytest.raises(SelectorError, match="'layer_9/w' matches no variable"):
        declared.init(key, only="layer_9/w")


def test_given_may_be_nested_and_traced():
    declared = js.declare(some)()
    w = jnp.full((9, 7), 3.0)
    expected = declared.init(KEY, given={"layer_0/w": w})
    assert declared.init(KEY, given={"layer_0": {"w": w}}) == expected
    traced = jax.jit(lambda k, w: declared.init(k, given={"layer_0/w": w}))(KEY, w)
    assert bits(traced) == bits(expected)
    grad = jax.grad(lambda w: declared.init(KEY, given={"layer_0/w": w})["layer_0/w"].sum())(w)
    np.testing.assert_array_equal(grad, np.ones((9, 7)))


def test_given_that_does_not_fit_is_listed_at_once():
    declared = js.declare(some)()
    given = {"layer_0/w": jnp.ones((9, 8)), "layer_0/ids": jnp.ones(9), "new": jnp.ones(1)}
    with pytest.raises(TreeMismatchError) as caught:
        declared.init(KEY, given=given)
    assert str(caught.value).splitlines()[:4] == [
        "`given` differs from the declaration in 3 places:",
        "  unexpected: 'new' float32[1] is in `given` but not declared",
        "  shape: 'layer_0/w' is (9, 8) in `given`, (9, 7) declared",
        "  dtype: 'layer_0/ids' is float32 in `given`, int32 declared",
    ]
    with pytest.raises(
        TreeMismatchError, match=r"in 1 place:\n  no array: 'layer_0/w' is of type float in"
    ):
        declared.init(KEY, given={"layer_0/w": 1.0})
    with pytest.raises(
        TreeMismatchError, match="has a ShapeDtypeStruct, which is not a value, at 'lay"
    ):
        declared.init(KEY, given=js.select(declared.abstract(), "layer_0/w"))


def test_no_argument_is_changed():
    declared = js.declare(some)()
    given = {"layer_0/w": np.full((9, 7), 3.0, np.float32)}
    key = jax.random.key(3)
    before = jax.random.key_data(key).tolist()
    declared.init(key, given=given)
    assert list(given) == ["layer_0/w"]
    assert (given["layer_0/w"] == 3.0).all()
    assert jax.random.key_data(key).tolist() == before


@pytest.mark.parametrize(
    "key", [0, 1.5, None, jnp.ones(2), jnp.ones((2, 3)), jax.random.split(jax.random.key(0), 3)]
)
def test_a_key_is_one_prng_key(key):
    with pytest.raises(KeyArgumentError, match=r"Write jax\.random\.key\(0\)"):
        js.declare(some)().init(key)
    with pytest.raises(KeyArgumentError):
        js.init(some)(key)


def test_a_model_of_nothing_is_an_empty_tree():
    declared = js.declare(lambda scope: None)()
    assert declared.init(KEY) == js.VarTree() == jax.jit(declared.init)(KEY)


# Initial values of other variables.


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a")])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_initialized_value_follows_whatever_the_order(order, wrap):
    initializers = {
        "a": init.random_normal(0.0, 1.0),
        "b": init.initialized_value("a"),
        "c": init.initialized_value("b", lambda x: x * 2),
    }

    def model(scope):
        for name in order:
            scope.get_variable(name, (4,), initializer=initializers[name])

    declared = js.declare(model)()
    found = wrap(declared.init)(KEY)
    np.testing.assert_array_equal(found["b"], found["a"])
    np.testing.assert_array_equal(found["c"], 2 * found["a"])
    assert list(declared.init(KEY, only="c")) == ["c"]
    assert bits(declared.init(KEY, only="c")) == bits({"c": found["c"]})
    # What is given is followed, unless it is itself picked to be initialized.
    given = js.VarTree({"a": jnp.full(4, 5.0, jnp.float32), "b": jnp.full(4, 7.0, jnp.float32)})
    np.testing.assert_array_equal(declared.init(KEY, given=given)["c"], np.full(4, 14.0))
    some = declared.init(KEY, given=given, only=["b", "c"])
    np.testing.assert_array_equal(some["b"], np.full(4, 5.0))
    np.testing.assert_array_equal(some["c"], np.full(4, 10.0))
    all_fresh = declared.init(KEY, given=given, only="*")
    assert bits(all_fresh) == bits(found)


def test_initialized_value_is_looked_up_from_the_inside_out():
    def model(scope):
        scope.get_variable("w", (3,), initializer=init.ones)
        (scope / "a").get_variable("w", (3,), initializer=init.fill(2.0))
        copy = init.initialized_value("w")
        (scope / "a/b").get_variable("inner", (3,), initializer=copy)
        (scope / "c").get_variable("outer", (3,), initializer=copy)
        (scope / "c").get_variable("w", (3,), initializer=init.initialized_value("a/w"))
        (scope / "d").get_variable("w", (3,), initializer=copy)  # not itself: further out

    found = js.init(model)(KEY)
    assert [float(found[n][0]) for n in ("a/b/inner", "c/outer", "c/w", "d/w")] == [2, 2, 2, 1]


def test_circles_are_shown():
    def circle(scope, size):
        for i in range(size):
            following = init.initialized_value(f"v{(i + 1) % size}")
            scope.get_variable(f"v{i}", (2,), initializer=following)

    with pytest.raises(InitializerCycleError, match="each other: 'v0' -> 'v1' -> 'v2' -> 'v0'"):
        js.init(circle)(KEY, 3)
    with pytest.raises(InitializerCycleError, match="initial value of 'v0' depends on itself"):
        js.init(circle)(KEY, 1)

    def tail(scope):
        scope.get_variable("start", (2,), initializer=init.initialized_value("v0"))
        circle(scope, 2)

    with pytest.raises(InitializerCycleError, match="each other: 'v0' -> 'v1' -> 'v0'"):
        js.init(tail)(KEY)
    broken = js.declare(circle)(3).init(KEY, given={"v1": jnp.ones(2)})
    np.testing.assert_array_equal(broken["v0"], np.ones(2))


def test_initialized_value_that_does_not_fit_is_named():
    def model(scope, name, shape=(2,)):
        scope.get_variable("source", (2,))
        (scope / "a").get_variable("w", shape, initializer=init.initialized_value(name))

    with pytest.raises(InitializerError, match=r"'a/w' is that of 'sorce'.*close names: 'source'"):
        js.init(model)(KEY, "sorce")
    with pytest.raises(
        InitializerError, match=r"Variable 'a/w': initialized_value\('source'\) was"
    ):
        js.init(model)(KEY, "source", (3,))


def test_a_wrong_initializer_is_named():
    def model(scope, initializer):
        (scope / "a").get_variable("w", (2,), initializer=initializer)

    for wrap in (lambda f: f, jax.jit):
        for wrong in (lambda k, s, d: jnp.ones(3), lambda k, s, d: jnp.ones(s, jnp.int32)):
            with pytest.raises(InitializerError, match=r"Variable 'a/w': .* was called for shape"):
                wrap(js.declare(model)(wrong).init)(KEY)
    with pytest.raises(InitializerError, match=r"'a/w': .* and the dtype, but takes \(key\)"):
        js.declare(model)(lambda key: 0)
    with pytest.raises(ZeroDivisionError) as caught:
        js.init(model)(KEY, lambda k, s, d: 1 / 0)
    assert caught.value.__notes__[-1] == "(While variable 'a/w' was initialized.)"


# Purity.


def test_init_under_jit_does_not_run_the_model():
    def model(scope, x):
        return jnp.linalg.svd(scope.get_variable("w", (3, 3), initializer=init.ones) @ x)

    jaxpr = str(jax.make_jaxpr(lambda k: js.init(model)(k, jnp.ones((3, 3))))(KEY))
    assert "svd" not in jaxpr
    assert "dot_general" not in jaxpr


def test_a_training_step_learns():
    def model(scope, x):
        return (
            x
            @ scope.get_variable("w", (3, 1))
            * scope.get_variable("s", (), trainable=False, initializer=init.ones)
        )

    x = jax.random.normal(KEY, (32, 3))
    y = x @ jnp.array([[1.0], [-2.0], [0.5]])
    declared = js.declare(model)(x)
    with jax.checking_leaks():
        params, state = declared.split(declared.init(KEY))
        optimizer = optax.sgd(0.3)

        @jax.jit
        def step(params, moments):
            grads = jax.grad(lambda p: ((model(js.Scope(p, state), x) - y) ** 2).mean())(params)
            updates, moments = optimizer.update(grads, moments, params)
            return optax.apply_updates(params, updates), moments

        moments = optimizer.init(params)
        for _ in range(60):
            params, moments = step(params, moments)
    assert step._cache_size() == 1
    np.testing.assert_allclose(params["w"][:, 0], [1.0, -2.0, 0.5], atol=1e-2)
    assert list(params) == ["w"]


def test_a_weakly_typed_initial_value_becomes_a_variable_of_its_dtype():
    def model(scope):
        scope.get_variable("w", (3,), initializer=lambda key, shape, dtype: jnp.full(shape, 0.5))
        scope.get_variable("copy", (3,), initializer=init.initialized_value("w"))

    declared = js.declare(model)()
    for variables in (declared.init(KEY), jax.jit(declared.init)(KEY)):
        assert not variables["w"].weak_type
        assert not variables["copy"].weak_type
