"""Custom getters and variable creators: what they get, how they compose, what JAX sees of them."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jscope as js
from jscope import initializers as init
from jscope import regularizers

KEY = jax.random.key(0)
X = jnp.ones(2)


def with_getter(scope, getter):
    return scope.variable_scope(scope, custom_getter=getter)


def plain(getter, name, *args, **kwargs):
    return getter(name, *args, **kwargs)


def doubled(getter, name, *args, **kwargs):
    return 2 * getter(name, *args, **kwargs)


def plus_one(getter, name, *args, **kwargs):
    return 1 + getter(name, *args, **kwargs)


def factors(getter, name, **kwargs):
    return getter(f"{name}/a", **kwargs) * getter(f"{name}/b", **kwargs)


def dense(scope, x):
    return x * scope.get_variable("w", (2,), initializer=init.ones)


# What a getter gets, and what becomes of it.


def test_what_a_getter_passes_on_may_be_tf_s_whole_list_by_position():
    def getter(getter, name, **kw):
        tf1 = (kw["reuse"], kw["trainable"], kw["collections"], None, kw["partitioner"], True, None)
        return getter(name, kw["shape"], kw["dtype"], kw["initializer"], kw["regularizer"], *tf1)

    def placing(getter, name, **arguments):
        return getter(name, caching_device="/cpu:0", **arguments)

    def model(scope, getter):
        return with_getter(scope, getter).get_variable(
            "w", (2,), jnp.float16, init.ones, jnp.sum, False, ["mine"]
        )

    spec = js.declare(model)(getter)["w"]
    assert (spec.shape, spec.dtype, spec.initializer) == ((2,), np.float16, init.ones)
    assert (spec.regularizer, spec.trainable, spec.collections) == (jnp.sum, False, ("mine",))
    with pytest.raises(js.ScopeError, match=r"getter\('w'\) was passed caching_device='/cpu:0'"):
        js.declare(model)(placing)


def test_a_getter_gets_tf_s_arguments_by_keyword_with_the_scope_s_defaults():
    seen = []

    def recording(getter, **arguments):
        seen.append(arguments)
        return getter(**arguments)

    partition = lambda name, shape, dtype: None  # noqa: E731
    defaults = {"regularizer": jnp.sum, "dtype": "float16", "partitioner": partition}

    def model(scope):
        a = scope.variable_scope("a", custom_getter=recording, reuse=js.AUTO_REUSE, **defaults)
        a.get_variable("w", (2,), initializer=init.ones, constraint=jnp.abs)
        a.get_variable("n", initializer=3, collections=["mine"], trainable=False)
        a.get_variable("s", 2, sharding=jax.sharding.PartitionSpec())

    always = {
        "regularizer": jnp.sum,
        "reuse": js.AUTO_REUSE,
        "trainable": True,
        "collections": None,
        "partitioner": partition,
        "validate_shape": True,
        "constraint": None,
    }
    expected = [
        always
        | {"name": "a/w", "shape": (2,), "dtype": np.float16, "initializer": init.ones}
        | {"constraint": jnp.abs},
        always
        | {"name": "a/n", "shape": None, "dtype": None, "initializer": 3}
        | {"trainable": False, "collections": ["mine"]},
        always
        | {"name": "a/s", "shape": 2, "dtype": np.float16, "initializer": None}
        | {"sharding": jax.sharding.PartitionSpec()},
    ]
    declared = js.declare(model)()
    assert seen == expected
    assert (declared["a/w"].constraint, declared["a/n"].dtype) == (jnp.abs, np.int32)
    # The same when the model is applied, so a getter decides as it did.
    seen.clear()
    model(js.Scope(declared.init(KEY)))
    assert seen == expected


@pytest.mark.parametrize("mode", ["declared", "bound"])
def test_getters_compose_from_the_inside_out(mode):
    calls = []

    def named(word):
        def getter(getter, name, *args, **kwargs):
            calls.append((word, name))
            return getter(f"{name}_{word}", *args, **kwargs)

        return getter

    def model(scope):
        outer = scope.variable_scope("o", custom_getter=named("outer"))
        inner = outer.variable_scope("i", custom_getter=named("inner"))
        inner.get_variable("w", (2,))
        # A jump brings the other scope's getters, not those of this one; others go inside.
        outer.variable_scope(scope.variable_scope("x")).get_variable("w", (2,))
        scope.variable_scope(outer, custom_getter=named("more")).get_variable("v", (2,))
        # One on the call takes the place of all.
        inner.get_variable("u", (2,), custom_getter=named("call"))

    names = ["o/i/w_inner_outer", "x/w", "o/v_more_outer", "o/i/u_call"]
    if mode == "declared":
        assert list(js.declare(model)()) == names
    else:
        model(js.Scope(dict.fromkeys(names, X)))
    assert calls == [
        ("inner", "o/i/w"),
        ("outer", "o/i/w_inner"),
        ("more", "o/v"),
        ("outer", "o/v_more"),
        ("call", "o/i/u"),
    ]


def test_the_accessor_composes_them_too():
    scope = with_getter(js.Scope({"w": X}), doubled)
    assert scope.custom_getter is doubled
    both = with_getter(scope, plus_one)
    np.testing.assert_array_equal(both.get_variable("w"), [3.0, 3.0])
    again = js.Scope({"w": X}).get_variable("w", custom_getter=both.custom_getter)
    np.testing.assert_array_equal(again, [3.0, 3.0])


def test_a_getter_that_passes_all_on_changes_nothing():
    def model(scope):
        a = scope.variable_scope("a", initializer=init.constant(2.0), regularizer=jnp.sum)
        a.get_variable("w", (3,))
        a.get_variable("n", initializer=3, trainable=False)
        shared = a.variable_scope(a, reuse=js.AUTO_REUSE)
        shared.get_variable("n")
        shared.get_variable("w")
        shared.get_variable("w", (None,))
        a.get_local_variable("count", (), "int32")
        with pytest.raises(js.VariableExistsError):
            a.get_variable("w", (3,))

    assert js.declare(model)() == js.declare(lambda scope: model(with_getter(scope, plain)))()


def test_a_getter_may_ask_for_several_variables_or_for_none():
    def model(scope, x):
        x = x * with_getter(scope / "a", factors).get_variable("w", (2,))
        return x * scope.get_variable("b", (2,), custom_getter=lambda getter, name, **_: 5.0)

    declared = js.declare(model)(X)
    assert list(declared) == ["a/w/a", "a/w/b"]
    tree = {"a/w/a": 3 * X, "a/w/b": 7 * X}
    np.testing.assert_array_equal(model(js.Scope(tree), X), [105.0, 105.0])


def test_a_getter_that_leaves_arguments_out_leaves_the_scope_s_defaults_out():
    """As in TF: what it doesn't pass on isn't there; but reuse was requested, so it is kept."""

    def bare(getter, name, shape, **_):
        return getter(name, shape)

    def model(scope, reuse):
        a = scope.variable_scope(
            "a", regularizer=jnp.sum, dtype="float16", initializer=init.ones, custom_getter=bare
        )
        a = a.variable_scope(a, reuse=reuse)
        for _ in range(2):
            a.get_variable("w", (2,), trainable=False)

    spec = js.declare(model)(js.AUTO_REUSE)["a/w"]
    expected = js.VariableSpec((2,), np.dtype("float32"), init.glorot_uniform())
    assert spec == expected
    with pytest.raises(js.VariableExistsError):
        js.declare(model)(None)


@pytest.mark.parametrize("mode", ["declared", "bound"])
def test_a_getter_may_say_reuse(mode):
    def tied(getter, name, **arguments):
        return getter(f"{name.rpartition('/')[0]}/tied", **arguments | {"reuse": js.AUTO_REUSE})

    def model(scope, x):
        a = scope.variable_scope("a", custom_getter=tied)
        return x * a.get_variable("w", (2,)) * a.get_variable("v", (2,))

    if mode == "declared":
        assert list(js.declare(model)(X)) == ["a/tied"]
    else:
        np.testing.assert_array_equal(model(js.Scope({"a/tied": 3 * X}), X), [9.0, 9.0])


@pytest.mark.parametrize("mode", ["declared", "bound"])
def test_a_getter_sees_what_was_assigned(mode):
    def model(scope, x):
        a = scope.variable_scope("a", custom_getter=doubled, reuse=js.AUTO_REUSE)
        n = a.get_variable("n", (2,), trainable=False)
        a.assign("n", n)
        return x * a.get_variable("n", (2,))

    if mode == "declared":
        assert list(js.declare(model)(X)) == ["a/n"]
    else:
        out, updates = js.with_updates(model)({"a/n": X}, X)
        np.testing.assert_array_equal(out, [4.0, 4.0])
        np.testing.assert_array_equal(updates["a/n"], [2.0, 2.0])


@pytest.mark.parametrize("mode", ["declared", "bound"])
def test_wrong_getters(mode):
    def run(model):
        return js.declare(model)() if mode == "declared" else model(js.Scope({"a/w": X, "w": X}))

    def elsewhere(getter, name, *args, **kwargs):
        return getter("w", *args, **kwargs)

    for model in (
        lambda scope: scope.variable_scope("a", custom_getter=3),
        lambda scope: scope.get_variable("w", 2, custom_getter=3),
    ):
        with pytest.raises(ValueError, match="Passed a custom_getter which is not callable: 3"):
            run(model)
    with pytest.raises(js.ScopeError, match=r"called in the scope 'a' requested 'w', which is not"):
        run(lambda scope: (scope / "a").get_variable("w", 2, custom_getter=elsewhere))
    with pytest.raises(js.VariableNameError, match="must be a string, got 3"):
        run(lambda scope: scope.get_variable("w", 2, custom_getter=lambda getter, **_: getter(3)))


# What JAX sees.


def structure(scope):
    return jax.tree.structure(scope)


class Scaled:
    def __init__(self, scale):
        self.scale = scale

    def getter(self, getter, name, *args, **kwargs):
        return self.scale * getter(name, *args, **kwargs)


def scaled(scale, getter, name, **arguments):
    return scale * getter(name, **arguments)


def test_getters_are_compared_by_identity_and_partials_by_their_arguments():
    scope = js.Scope({"a/w": X, "b/w": X})
    two, three = Scaled(2.0), Scaled(3.0)
    a = scope / "a"

    def equal(one, other):
        return structure(with_getter(a, one)) == structure(with_getter(a, other))

    assert equal(doubled, doubled)
    # Each look-up of a method makes another object; it is the same getter.
    assert equal(two.getter, two.getter)
    assert equal(js.by_value(doubled), js.by_value(doubled))
    assert equal(functools.partial(scaled, 2.0), functools.partial(scaled, 2.0))
    assert equal(functools.partial(two.getter), functools.partial(two.getter))
    different = [
        a,
        with_getter(scope / "b", doubled),
        with_getter(a, js.by_value(doubled)),
        with_getter(a, functools.partial(scaled, 2.0)),
        with_getter(a, functools.partial(scaled, 2)),
        with_getter(a, functools.partial(scaled, 0.0)),
        with_getter(a, functools.partial(scaled, -0.0)),
        with_getter(a, functools.partial(scaled, True)),
        with_getter(a, functools.partial(scaled, scale=2.0)),
        with_getter(a, doubled),
        with_getter(a, plus_one),
        with_getter(with_getter(a, doubled), plus_one),
        with_getter(with_getter(a, plus_one), doubled),
        with_getter(a, two.getter),
        with_getter(a, three.getter),
        with_getter(a, lambda getter, *args, **kwargs: getter(*args, **kwargs)),
        with_getter(a, lambda getter, *args, **kwargs: getter(*args, **kwargs)),
    ]
    assert len(set(map(structure, different))) == len(different)


def test_an_equal_getter_traces_once_for_a_path_and_another_one_anew():
    traced = []

    @jax.jit
    def block(scope, x):
        traced.append(1)
        return dense(scope, x)

    def apply(value, getter, name):
        scope = js.Scope({f"{name}/w": value})
        return float(block(with_getter(scope, getter) / name, X)[0])

    assert apply(3 * X, doubled, "a") == 6.0
    assert apply(5 * X, doubled, "a") == 10.0
    assert len(traced) == 1
    assert apply(5 * X, doubled, "b") == 10.0  # it may look at the name
    assert apply(3 * X, plus_one, "a") == 4.0
    assert len(traced) == 3
    for name in "abc":
        assert apply(3 * X, js.by_value(doubled), name) == 6.0
    for _ in range(4):
        assert apply(3 * X, functools.partial(scaled, 4.0), "a") == 12.0
    assert len(traced) == 5


def test_a_getter_made_in_each_call_is_never_stale():
    block = jax.jit(dense)

    def model(scope, scale, x):
        return block(with_getter(scope, lambda getter, *a, **k: scale * getter(*a, **k)), x)

    scale_gradient = jax.jit(jax.grad(lambda scale: model(js.Scope({"w": 3 * X}), scale, X).sum()))
    for scale in (2.0, 5.0):
        np.testing.assert_array_equal(model(js.Scope({"w": 3 * X}), scale, X), 3 * scale * X)
        assert float(scale_gradient(scale)) == 6.0


def test_getters_are_not_kept():
    def use_one():
        def getter(getter, *args, **kwargs):
            return getter(*args, **kwargs)

        scope = js.Scope({"kept/w": X}) / "kept"
        jax.jit(dense)(with_getter(scope, getter), X)
        js.declare(lambda scope, x: dense(with_getter(scope, getter), x))(X)
        return weakref.ref(getter)

    kept = use_one()
    jax.clear_caches()
    gc.collect()
    assert kept() is None


TRANSFORMS = {
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "vmap": lambda f: lambda scope, x: jax.vmap(f, (None, 0))(scope, jnp.stack([x, x]))[0],
    "scan": lambda f: (
        lambda scope, x: lax.scan(lambda c, _: ((c[0], f(*c)), None), (scope, x), length=1)[0][1]
    ),
    "cond": lambda f: lambda scope, x: lax.cond(x.sum() > 0, f, lambda s, x: -f(s, x), scope, x),
    "closure": lambda f: lambda scope, x: jax.jit(lambda x: f(scope, x))(x),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_getters_travel_through_transforms(transform):
    """Declared, applied, and with gradients, as the same mathematics without one."""

    def block(scope, x):
        return dense(scope / "in", x) + with_getter(scope, plus_one).get_variable("v", (2,))

    def model(scope, x):
        a = scope.variable_scope("a", custom_getter=factors)
        return TRANSFORMS[transform](block)(a, x)

    def by_hand(v, x):
        return x * v["a/in/w/a"] * v["a/in/w/b"] + 1 + v["a/v/a"] * v["a/v/b"]

    with jax.checking_leaks():
        declared = js.declare(model)(X)
        names = ["a/in/w/a", "a/in/w/b", "a/v/a", "a/v/b"]
        assert list(declared) == names
        tree = js.VarTree({name: jnp.full(2, 2.0 + i) for i, name in enumerate(names)})
        for apply in (model, jax.jit(lambda s, x: model(s, x))):
            np.testing.assert_allclose(apply(js.Scope(tree), X), by_hand(tree, X), rtol=1e-6)
        found = jax.grad(lambda v: model(js.Scope(v), X).sum())(tree)
        expected = jax.grad(lambda v: by_hand(v, X).sum())(dict(tree))
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


def test_getters_of_stacks():
    def tower(scope, x):
        stack = with_getter(scope, factors).stacked("layers", 3)
        return lax.scan(lambda x, layer: (dense(layer, x), None), x, stack)[0]

    declared = js.declare(tower)(X)
    assert {name: spec.shape for name, spec in declared.items()} == {
        "layers/w/a": (3, 2),
        "layers/w/b": (3, 2),
    }
    tree = {"layers/w/a": jnp.full((3, 2), 2.0), "layers/w/b": jnp.full((3, 2), 5.0)}
    np.testing.assert_array_equal(tower(js.Scope(tree), X), [1000.0, 1000.0])


def test_inline_initialisation_runs_getters():
    def by_data(getter, name, shape, **arguments):
        w = getter(name, shape, **arguments | {"initializer": init.constant(2.0)})
        return w * getter(f"{name}/scale", initializer=1 / (X * 4))

    tree = js.init(lambda s, x: dense(with_getter(s, by_data), x), inline=True)(KEY, X)
    assert {name: float(value[0]) for name, value in tree.items()} == {"w": 2.0, "w/scale": 0.25}


# Creators.


def frozen(next_creator, **arguments):
    return next_creator(**arguments | {"trainable": False})


def test_a_creator_changes_what_is_declared():
    def model(scope):
        a = scope.variable_creator_scope(frozen) / "a"
        a.get_variable("w", (2,))
        a.get_variable("b/w", (2,), trainable=True)
        scope.get_variable("w", (2,))

    declared = js.declare(model)()
    assert declared.trainable == ("w",)
    model(js.Scope(declared.init(KEY)))


def test_a_creator_gets_the_whole_request_with_defaults():
    seen = []

    def recording(next_creator, **arguments):
        seen.append(arguments)
        return next_creator(**arguments)

    def model(scope):
        a = scope.variable_scope("a", regularizer=jnp.sum, dtype="float16", initializer=init.ones)
        a = a.variable_creator_scope(recording).variable_scope(a.name, reuse=js.AUTO_REUSE)
        for _ in range(2):  # creation only
            a.get_variable("w", (2,), constraint=jnp.abs)

    js.declare(model)()
    assert seen == [
        {
            "name": "a/a/w",
            "shape": (2,),
            "dtype": np.dtype("float16"),
            "initializer": init.ones,
            "regularizer": jnp.sum,
            "trainable": True,
            "collections": None,
            "partitioner": None,
            "constraint": jnp.abs,
            "sharding": None,
        }
    ]


def test_creators_compose_from_the_inside_out():
    calls = []

    def named(word):
        def creator(next_creator, **arguments):
            calls.append(word)
            return next_creator(**arguments | {"collections": [word]})

        return creator

    def model(scope):
        outer = scope.variable_creator_scope(named("outer"))
        inner = outer.variable_scope("a").variable_creator_scope(named("inner"))
        inner.get_variable("w", (2,))
        outer.get_variable("w", (2,))

    declared = js.declare(model)()
    assert calls == ["inner", "outer", "outer"]
    assert declared["a/w"].collections == ("outer",)  # which has the last word


def test_a_creator_may_change_what_get_variable_did_not_name():
    def half(next_creator, **arguments):
        return next_creator(**arguments | {"dtype": jnp.bfloat16})

    def model(scope, **named):
        scope.variable_creator_scope(half).get_variable("w", (2,), **named)

    declared = js.declare(model)()
    assert declared["w"].dtype == jnp.bfloat16
    model(js.Scope(declared.init(KEY)))
    with pytest.raises(js.DtypeMismatchError, match="specified dtype float32 and found dtype bf"):
        js.declare(model)(dtype="float32")

    def longer(next_creator, **arguments):
        return next_creator(**arguments | {"shape": (3,)})

    with pytest.raises(js.ShapeMismatchError, match=r"\(3,\)\. Its variable creator changed that"):
        js.declare(lambda s: s.variable_creator_scope(longer).get_variable("w", (2,)))()


def test_a_creator_in_a_stack_sees_one_slice():
    def model(scope, x):
        stack = scope.variable_creator_scope(frozen).stacked("s", 3)
        return lax.scan(lambda x, layer: (dense(layer, x), None), x, stack)[0]

    spec = js.declare(model)(X)["s/w"]
    assert (spec.shape, spec.trainable) == ((3, 2), False)


def test_a_creator_may_ask_for_variables_itself():
    def with_scale(scope, next_creator, **arguments):
        scope.shared("scales").get_variable("of_" + arguments["name"], ())
        return next_creator(**arguments)

    def model(scope):
        creator = functools.partial(with_scale, scope)
        scope.variable_creator_scope(creator).get_variable("w", (2,))

    assert list(js.declare(model)()) == ["scales/of_w", "w"]


def test_wrong_creators():
    def renaming(next_creator, **arguments):
        return next_creator(**arguments | {"name": "v"})

    def run(creator):
        js.declare(lambda s: s.variable_creator_scope(creator).get_variable("w", (2,)))()

    with pytest.raises(js.GetterError, match="Passed a variable_creator which is not callable: 3"):
        run(3)
    with pytest.raises(js.GetterError, match="The creator of variable 'w' gave None, not a Var"):
        run(lambda next_creator, **arguments: None)
    with pytest.raises(js.GetterError, match=r"'w' requested the name 'v'\. A creator can't"):
        run(renaming)


def test_a_bound_scope_drops_creators():
    scope = js.Scope({"a/w": X})
    a = scope.variable_creator_scope(lambda next_creator, **arguments: 1 / 0) / "a"
    assert structure(a) == structure(scope / "a")
    assert a.get_variable("w", (2,)) is X
    # What they would have declared isn't known.
    with pytest.raises(js.ScopeError, match="without creators; here not of 'w'"):
        a.trainable_variables()


def test_regularizers_see_the_variable_not_what_the_getter_makes_of_it():
    def model(scope):
        with_getter(scope, doubled).get_variable("w", (2,), regularizer=regularizers.l1(1.0))

    assert float(js.declare(model)().regularization_loss({"w": X})) == 2.0
