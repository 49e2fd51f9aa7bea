"""`variable_scope`: names, scopes as values, default names by TF1's counting, inheritance."""

import copy
import functools
import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec

import jscope as js
from jscope import initializers as init
from jscope import regularizers

X = jnp.ones(2)


def declared_names(model, *args):
    return list(js.declare(model)(*args))


def tree_of(model, *args):
    return js.init(model)(jax.random.key(0), *args)


def default(scope, name):
    return scope.variable_scope(None, default_name=name)


# Default names.


def test_default_names_count_every_opening_of_the_name():
    """The sequence that TF 1 gives: explicit openings count, and are not renamed."""

    def model(scope):
        names = [scope.variable_scope("d").name]
        names += [default(scope, "d").name for _ in range(2)]
        names += [scope.variable_scope("d").name, default(scope, "d").name]
        names += [scope.variable_scope("d_1").name, default(scope, "d").name]
        assert names == ["d", "d_1", "d_2", "d", "d_3", "d_1", "d_4"]

    js.declare(model)()
    model(js.Scope({}))


def test_a_scope_takes_along_what_is_known_of_names_below_it():
    scope = js.Scope({})
    assert [default(scope, "a/b").name for _ in range(2)] == ["a/b", "a/b_1"]
    a = scope.variable_scope("a")
    assert default(a, "b").name == "a/b_2"
    assert default(a, "c").name == "a/c"
    # Opened again, it is counted in anew.
    assert default(scope.variable_scope("a"), "b").name == "a/b"


def test_default_names_count_per_scope_object():
    scope = js.Scope({})
    one, other = scope.variable_scope("a"), scope.variable_scope("a")
    assert [default(s, "d").name for s in (one, other, one)] == ["a/d", "a/d", "a/d_1"]


def test_entering_a_scope_goes_on_counting_and_leaves_no_trace():
    scope = js.Scope({})
    default(scope, "layer")
    again = scope.variable_scope(scope)
    assert default(again, "layer").name == "layer_1"
    assert default(scope, "layer").name == "layer_1"
    # From inside of another scope too.
    inner = scope.variable_scope("a")
    assert default(inner.variable_scope(scope), "layer").name == "layer_2"


def test_scope_slash_name_opens_nothing():
    scope = js.Scope({})
    assert (scope / "d").name == default(scope, "d").name == "d"


def test_equal_runs_give_equal_default_names():
    def model(scope, x):
        for _ in range(3):
            conv = default(scope, "conv")
            for _ in range(2):
                x = x * default(conv, "inner").get_variable("w", (2,))
        return x

    names = [f"conv{i}/inner{j}/w" for i in ("", "_1", "_2") for j in ("", "_1")]
    assert declared_names(model, X) == names
    tree = tree_of(model, X)
    once = model(js.Scope(tree), X)
    np.testing.assert_array_equal(model(js.Scope(tree), X), once)
    with jax.checking_leaks():
        jitted = jax.jit(lambda tree, x: model(js.Scope(tree), x))(tree, X)
        np.testing.assert_allclose(jitted, once, rtol=1e-6)
        jax.grad(lambda tree: model(js.Scope(tree), X).sum())(tree)


def test_with_updates_and_fold_go_on_counting():
    def block(scope, x):
        return x * default(scope, "d").get_variable("w", (2,))

    def model(scope, x):
        x = js.with_updates(block)(scope, block(scope, x))[0]
        return block(scope.fold(3), x)

    assert declared_names(model, X) == ["d/w", "d_1/w", "d_2/w"]
    assert model(js.Scope(tree_of(model, X)), X).shape == (2,)


BODIES = {
    "passed": lambda body, scope, x: jax.jit(body)(scope, x),
    "closed over": lambda body, scope, x: jax.jit(lambda x: body(scope, x))(x),
    "below, passed": lambda body, scope, x: jax.jit(body)(scope / "a", x),
    "checkpoint": lambda body, scope, x: jax.checkpoint(body)(scope, x),
    "scan": lambda body, scope, x: lax.scan(lambda x, _: (body(scope, x), None), x, length=2)[0],
}


@pytest.mark.parametrize("mode", ["declared", "bound"])
@pytest.mark.parametrize("how", BODIES)
def test_a_default_name_in_a_transform_is_an_error_that_says_what_to_write(how, mode):
    def block(scope, x):
        return x * default(scope, "d").get_variable("w", (2,))

    model = functools.partial(BODIES[how], block)
    transform = {"checkpoint": "jax.checkpoint", "scan": "jax.lax.scan"}.get(how, "jax.jit")
    with pytest.raises(js.ScopeError) as caught:
        js.declare(model)(X) if mode == "declared" else model(js.Scope({"d/w": X}), X)
    assert f"The default name 'd' was requested in the scope {'a' if 'below' in how else ''!r}" in (
        str(caught.value)
    )
    assert f"inside {transform}. JAX may run a body once for two calls" in str(caught.value)
    assert "Write scope.variable_scope('d'), or enter the scope outside" in str(caught.value)


def test_a_scope_with_a_default_name_is_entered_outside_and_passed():
    def model(scope, x):
        for _ in range(2):
            x = jax.jit(lambda s, x: x * s.get_variable("w", (2,)))(default(scope, "d"), x)
        return x

    assert declared_names(model, X) == ["d/w", "d_1/w"]


def test_a_default_name_in_another_thread_of_a_declaration_is_an_error_too():
    """Threads come in any order; and JAX's trace is that of the thread that declares."""
    raised = []

    def model(scope):
        def work():
            with pytest.raises(
                js.ScopeError, match="inside a transform, or in another thread"
            ) as e:
                default(scope, "d")
            raised.append(e.value)

        run_in_threads(work, 1)

    js.declare(model)()
    assert len(raised) == 1


def test_a_root_scope_that_is_made_in_a_transform_counts_there():
    tree = {"d/w": X}
    apply = jax.jit(lambda tree, x: x * default(js.Scope(tree), "d").get_variable("w", (2,)))
    np.testing.assert_array_equal(apply(tree, X), X)


def test_names_that_are_asked_for_wrongly():
    scope = js.Scope({})
    with pytest.raises(TypeError, match="If default_name is None then name_or_scope is required"):
        scope.variable_scope()
    for reuse in (True, js.AUTO_REUSE):
        with pytest.raises(ValueError, match=r"cannot be used without a name_or_scope.*Write sco"):
            scope.variable_scope(None, default_name="d", reuse=reuse)
    with pytest.raises(TypeError, match="name_or_scope must be a string or a Scope, got 3 of int"):
        scope.variable_scope(3)
    with pytest.raises(js.VariableNameError, match="trailing"):
        scope.variable_scope(None, default_name="d/")
    # As in TF, the default name doesn't matter beside a name, and inherited reuse is no obstacle.
    assert scope.variable_scope("a", default_name="b").name == "a"
    assert default(scope.shared("a"), "d").reuse is js.AUTO_REUSE


@pytest.mark.parametrize("argument", ["values", "caching_device", "use_resource"])
def test_arguments_of_tf1_without_a_meaning_say_what_takes_their_place(argument):
    with pytest.raises(js.ScopeError, match=rf"was passed {argument}='x', which has no meaning"):
        js.Scope({}).variable_scope("a", **{argument: "x"})
    with pytest.raises(js.ScopeError, match=r"with jax\.named_scope\(name\).*Leave aux"):
        js.Scope({}).variable_scope("a", auxiliary_name_scope=False)
    with pytest.raises(js.ScopeError, match="pick a graph, and there is none"):
        js.Scope({}).variable_scope("a", "d", ["x"])
    before = {"values": 2, "caching_device": 5, "use_resource": 10}[argument]
    with pytest.raises(js.ScopeError, match=rf"passed {argument}='x'.*by position, write None"):
        js.Scope({}).variable_scope("a", *(None,) * (before - 1), "x")


def test_threads_get_different_default_names():
    scope, barrier, names = js.Scope({}), threading.Barrier(4), []

    def work():
        barrier.wait()
        names.extend(default(scope, "d").name for _ in range(200))

    run_in_threads(work)
    assert sorted(names) == sorted(["d", *(f"d_{i}" for i in range(1, 800))])


def run_in_threads(work, count=4):
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Scopes as values.


def test_a_scope_is_entered_from_anywhere():
    def model(scope, x):
        with scope.variable_scope("shared") as shared:
            x = x * shared.get_variable("w", (2,))
        with scope.variable_scope("a") as a, a.variable_scope("b") as b:
            with b.variable_scope(shared, reuse=True) as again:
                assert again.name == "shared"
                x = x * again.get_variable("w", (2,))
            return x * b.get_variable("w", (2,))

    assert declared_names(model, X) == ["shared/w", "a/b/w"]
    tree = js.VarTree({"shared/w": jnp.array([2.0, 3.0]), "a/b/w": jnp.array([5.0, 7.0])})
    np.testing.assert_array_equal(model(js.Scope(tree), X), [20.0, 63.0])


def test_name_reuse_and_defaults_are_the_scope_s_own_and_arguments_win():
    ones, twos = init.ones, init.constant(2.0)
    l2, partition = regularizers.l2(0.5), lambda name, shape, dtype: PartitionSpec()

    def model(scope):
        a = scope.variable_scope(
            "a", initializer=ones, regularizer=l2, dtype="float16", partitioner=partition
        )
        around = scope.variable_scope("x", reuse=True, initializer=twos, dtype="bfloat16")
        for again in (around.variable_scope(a), copy.copy(a)):
            assert (again.name, again.reuse, again.initializer) == ("a", False, ones)
            assert (again.regularizer, again.partitioner) == (l2, partition)
            assert again.dtype == np.float16
        changed = around.variable_scope(a, reuse=js.AUTO_REUSE, initializer=twos)
        assert (changed.reuse, changed.initializer) == (js.AUTO_REUSE, twos)
        assert changed.regularizer is l2
        # The scope itself stays as it was; and what is True can't be undone on entering.
        assert (a.reuse, a.initializer) == (False, ones)
        reusing = a.reuse_variables()
        assert (reusing.reuse, a.reuse, reusing.initializer) == (True, False, ones)
        assert scope.variable_scope(reusing, reuse=False).reuse is True
        assert scope.variable_scope(reusing, reuse=js.AUTO_REUSE).reuse is js.AUTO_REUSE

    js.declare(model)()
    model(js.Scope({}))


def test_reuse_variables_is_the_scope_that_shares():
    def model(scope, x):
        tower = scope.variable_scope("tower")
        for _ in range(3):
            x = x * tower.get_variable("w", (2,)) * default(tower, "d").get_variable("w", (2,))
            tower = tower.reuse_variables()
        return x

    with pytest.raises(js.MissingVariableError, match="tower/d_1/w does not exist"):
        js.declare(model)(X)  # it goes on counting, as TF does

    def tied(scope, x):
        tower = scope.variable_scope("tower")
        for _ in range(3):
            x = x * tower.get_variable("w", (2,))
            tower = tower.reuse_variables()
        return x

    assert declared_names(tied, X) == ["tower/w"]
    np.testing.assert_array_equal(tied(js.Scope({"tower/w": 2 * X}), X), [8.0, 8.0])


def test_a_scope_of_another_run_or_tree_is_an_error():
    kept = []
    js.declare(kept.append)()
    bound = js.Scope({"w": X})
    with pytest.raises(js.ScopeError, match="can't be entered from '': it belongs to another decl"):
        js.declare(lambda scope: scope.variable_scope(kept[0]))()
    with pytest.raises(js.ScopeError, match="it has values, while this one declares"):
        js.declare(lambda scope: scope.variable_scope(bound))()
    with pytest.raises(js.ScopeError, match="it declares, while this one has values"):
        bound.variable_scope(kept[0])
    with pytest.raises(js.ScopeError, match=r"The scope 'a' can't.*it is another tree's"):
        bound.variable_scope(js.Scope({"w": X}) / "a")
    # The same root, by whatever way.
    assert bound.variable_scope(bound.fold(1) / "a").name == "a"
    js.with_updates(lambda s: s.variable_scope(bound))(bound)


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: jax.vmap(f, (None, None, 0))])
def test_scopes_are_passed_together_through_transforms(wrap):
    """A block gets its own scope and a shared one, and enters the latter by object."""

    def block(scope, shared, x):
        table = scope.variable_scope(shared, reuse=js.AUTO_REUSE).get_variable("table", (2,))
        return x * jnp.broadcast_to(table * scope.get_variable("w", (2,)), x.shape)

    def model(scope, x):
        shared = scope.variable_scope("shared")
        for i in range(2):
            x = wrap(block)(scope / f"layer_{i}", shared, x)
        return x

    x = jnp.ones((3, 2))
    with jax.checking_leaks():
        assert declared_names(model, x) == ["shared/table", "layer_0/w", "layer_1/w"]
        tree = js.VarTree({"shared/table": 3 * X, "layer_0/w": 5 * X, "layer_1/w": 7 * X})
        np.testing.assert_allclose(model(js.Scope(tree), x), 9 * 35 * x)
        gradient = jax.grad(lambda tree: model(js.Scope(tree), x).sum())(tree)
    np.testing.assert_allclose(gradient["shared/table"], [3 * 2 * 3 * 35.0] * 2)


@pytest.mark.parametrize("mode", ["declared", "bound"])
def test_what_is_assigned_in_a_scope_entered_by_object_is_seen_everywhere(mode):
    def model(scope, x):
        state = scope.variable_scope("state")
        n = state.get_variable("n", (), initializer=init.zeros, trainable=False)
        inner = (scope / "a").variable_scope(state, reuse=True)
        inner.assign("n", n + 1)
        return x + state["n"] + inner.get_variable("n", ())

    if mode == "declared":
        assert declared_names(model, 0.0) == ["state/n"]
    else:
        out, updates = js.with_updates(model)({"state/n": jnp.float32(4)}, 0.0)
        assert float(out) == 10.0
        assert updates == js.VarTree({"state/n": jnp.float32(5)})


def test_a_bound_scope_is_used_from_several_threads():
    scope = js.Scope({f"l{i}/w": jnp.full(2, i) for i in range(100)}).variable_scope
    shared, found = js.Scope({"l/w": X}).shared("l"), []

    def work():
        for i in range(100):
            found.append(float(scope(f"l{i}", reuse=js.AUTO_REUSE).get_variable("w", (2,))[0]) - i)
            found.append(float(shared.get_variable("w", (2,))[0]) - 1)

    run_in_threads(work)
    assert len(found) == 800
    assert not any(found)


def test_a_declaring_scope_is_used_from_several_threads():
    def model(scope):
        towers = [scope.shared("tower") for _ in range(4)]
        start = threading.Barrier(4)

        def work():
            tower = towers.pop()
            start.wait()
            for i in range(50):
                (tower / f"l{i}").get_variable("w", (2,))

        run_in_threads(work)

    declared = js.declare(model)()
    assert sorted(declared) == sorted(f"tower/l{i}/w" for i in range(50))
    assert set(declared._times.values()) == {4}


def test_a_copy_is_the_same_scope_and_pickling_says_what_to_pickle():
    for make in (copy.copy, copy.deepcopy):
        scope = js.Scope({"a/w": X}) / "a"
        twin = make(scope)
        assert jax.tree.structure(twin) == jax.tree.structure(scope)
        assert twin.get_variable("w", (2,)) is X
        with pytest.raises(js.VariableExistsError):
            scope.get_variable("w", (2,))
    seen = []
    js.declare(lambda s: seen.append(copy.deepcopy({"scope": s})["scope"].name))()
    assert seen == [""]
    with pytest.raises(TypeError, match=r"The scope 'a' can't be pickled.*js\.Scope\(tree\)"):
        pickle.dumps(scope)


# Inheritance.


def test_everything_but_the_constraint_is_inherited_and_none_inherits():
    getter, partition = lambda getter, *a, **k: getter(*a, **k), lambda n, s, d: None
    given = {
        "initializer": init.ones,
        "regularizer": jnp.sum,
        "partitioner": partition,
        "custom_getter": getter,
        "reuse": js.AUTO_REUSE,
        "dtype": np.dtype("float16"),
        "constraint": jnp.abs,
    }

    def model(scope):
        nothing = dict.fromkeys(given)
        root = dict.fromkeys(given) | {"reuse": False, "dtype": np.dtype("float32")}
        a = scope.variable_scope("a", **given)
        below = given | {"constraint": None}
        for place, expected in [
            (scope, root),
            (scope.variable_scope("b"), root),
            (a, given),
            (a / "b", below),
            (a.variable_scope("b"), below),
            (a.variable_scope("b", **nothing), below),
            (scope.variable_scope(a), below),
            (default(a, "d"), below),
            (a.reuse_variables(), given | {"reuse": True}),
        ]:
            assert {key: getattr(place, key) for key in given} == expected

    js.declare(model)()
    model(js.Scope({}))


def test_constraints_are_of_the_very_scope():
    def model(scope):
        a = scope.variable_scope("a", constraint=jnp.abs)
        a.get_variable("w", 2)
        a.get_variable("b/w", 2)
        (a / "c").get_variable("w", 2)
        (a / "d").get_variable("w", 2, constraint=jnp.sign)

    found = {name: spec.constraint for name, spec in js.declare(model)().items()}
    assert found == {"a/w": jnp.abs, "a/b/w": jnp.abs, "a/c/w": None, "a/d/w": jnp.sign}
    for wrong in (
        lambda s: s.variable_scope("a", constraint=3),
        lambda s: s.get_variable("w", 2, constraint=3),
    ):
        with pytest.raises(js.ConstraintError, match="`constraint` argument must be a callable"):
            js.declare(wrong)()


def test_a_value_as_a_scope_s_initializer_has_its_own_dtype():
    def model(scope):
        a = scope.variable_scope("a", initializer=np.array([1, 2], np.int32), dtype="float16")
        a.get_variable("n")
        a.variable_scope(a, reuse=True).get_variable("n")

    assert js.declare(model)()["a/n"].dtype == np.int32
    tree = {"a/n": np.array([1, 2], np.int32)}
    model(js.Scope(tree))
    jax.jit(model)(js.Scope(tree))
    # What has an initializer of its own below has the scope's dtype again.
    scope = js.Scope(tree).variable_scope("a", initializer=3, dtype="float16")
    again = scope.variable_scope(scope, initializer=init.zeros)
    with pytest.raises(
        js.DtypeMismatchError, match="specified dtype float16 and found dtype int32"
    ):
        again.get_variable("n")
    with pytest.raises(js.InitializerError, match="is a constant, do not specify shape"):
        js.declare(lambda s: s.variable_scope("a", initializer=3.0).get_variable("w", 2))()


def test_a_scope_s_initializer_fits_variables_of_any_shape_when_sharing():
    def model(scope):
        a = scope.variable_scope("a", initializer=init.constant(1.0), reuse=js.AUTO_REUSE)
        a.get_variable("w", (3,))
        a.get_variable("w")

    assert js.declare(model)()._times == {"a/w": 2}


def test_what_cannot_change_a_lookup_stays_behind_at_a_boundary():
    """Else a cached trace would show the first caller's initializer to all later ones."""
    seen = []

    @jax.jit
    def block(scope):
        seen.append((scope.initializer, scope.regularizer, scope.reuse, scope.dtype))
        return scope.get_variable("w", (2,))

    scope = js.Scope({"a/w": X})
    for initializer in (init.ones, init.zeros, None):
        a = scope.variable_scope(
            "a", initializer=initializer, regularizer=jnp.sum, reuse=True, dtype="float32"
        )
        assert a.initializer is initializer
        block(a)
    assert seen == [(None, None, True, np.float32)]
    js.declare(lambda s: block(s.variable_scope("a", initializer=init.ones)))()
    assert seen[1:] == [(init.ones, None, False, np.float32)]  # here it creates
