"""What a model returns beside its result: updates and records."""

import functools
import inspect
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jscope as js

X = jnp.arange(6.0).reshape(2, 3)


def average(scope, x):
    """A layer that keeps a moving mean of its inputs' means, and subtracts it."""
    mean = scope.get_variable("mean", (3,), initializer=js.initializers.zeros, trainable=False)
    w = scope.get_variable("w", (3, 3))
    mean = scope.assign("mean", 0.5 * mean + 0.5 * x.mean(axis=0))
    scope.record("centred", x - mean[None])
    return (x - mean[None]) @ w


def average_by_hand(mean, w, x):
    mean = 0.5 * mean + 0.5 * x.mean(axis=0)
    return (x - mean[None]) @ w, mean


def tree_of(*scopes):
    names = [(f"{s}/" if s else "") + name for s in scopes for name in ("mean", "w")]
    return js.VarTree(
        {
            name: jax.random.normal(jax.random.key(i), (3,) if name.endswith("mean") else (3, 3))
            for i, name in enumerate(names)
        }
    )


# Updates.


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_updates_are_what_was_assigned_relative_to_the_tree(wrap):
    def model(scope, x):
        return average(scope / "b", average(scope / "a", x))

    tree = tree_of("a", "b")
    before = dict(tree)
    with jax.checking_leaks():
        out, updates = wrap(js.with_updates(model))(tree, X)
    hidden, mean_a = average_by_hand(tree["a/mean"], tree["a/w"], X)
    expected, mean_b = average_by_hand(tree["b/mean"], tree["b/w"], hidden)
    assert list(updates) == ["a/mean", "b/mean"]
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    np.testing.assert_allclose(updates["a/mean"], mean_a, rtol=1e-6)
    np.testing.assert_allclose(updates["b/mean"], mean_b, rtol=1e-5)
    assert all(tree[name] is before[name] for name in tree)
    assert list(tree | updates) == list(tree)


def test_reads_after_writes_see_the_new_value_in_program_order():
    def model(scope):
        a = scope / "a"
        seen = [a["n"]]
        seen.append(a.assign_add("n", 1))
        seen.append(a.get_variable("n", (), jnp.int32))
        scope.assign("a/n", jnp.int32(10))
        seen.append((scope / "a")["n"])
        seen.append(jax.jit(lambda s: s["n"])(scope / "a"))
        seen.append(jax.tree.leaves(scope)[0])
        seen.append(a.assign_sub("n", 3))
        return jnp.stack(seen)

    out, updates = js.with_updates(model)({"a/n": jnp.int32(5)})
    assert out.tolist() == [5, 6, 6, 10, 10, 10, 7]
    assert updates == js.VarTree({"a/n": jnp.int32(7)})


def test_all_of_tf1_s_operations_return_the_new_value():
    v = jnp.arange(6.0).reshape(3, 2)
    rows, ones = jnp.array([0, 2]), jnp.ones((2, 2))
    places, values = jnp.array([[0, 1], [2, 0]]), jnp.ones(2)
    calls = {
        "assign": (v + 1,),
        "assign_add": (v,),
        "assign_sub": (v,),
        "scatter_update": (rows, ones),
        "scatter_add": (rows, ones),
        "scatter_sub": (rows, ones),
        "scatter_mul": (rows, 3 * ones),
        "scatter_div": (rows, 2 * ones),
        "scatter_min": (rows, ones),
        "scatter_max": (rows, ones),
        "scatter_nd_update": (places, values),
        "scatter_nd_add": (places, values),
        "scatter_nd_sub": (places, values),
        "batch_scatter_update": (jnp.array([[0], [1], [0]]), jnp.ones((3, 1))),
    }
    for name, arguments in calls.items():

        def model(scope, name=name, arguments=arguments):
            return getattr(scope / "a", name)("v", *arguments)

        out, updates = js.with_updates(model)({"a/v": v})
        expected = getattr(js, name)({"a/v": v}, "a/v", *arguments)["a/v"]
        np.testing.assert_array_equal(out, expected, err_msg=name)
        np.testing.assert_array_equal(updates["a/v"], expected, err_msg=name)
        with jax.checking_leaks():
            js.declare(lambda scope, call=model: (scope.get_variable("a/v", (3, 2)), call(scope)))()


def test_count_up_to_returns_the_value_before():
    out, updates = js.with_updates(lambda s: s.count_up_to("n", 3))({"n": jnp.int32(1)})
    assert (int(out), int(updates["n"])) == (1, 2)
    with pytest.raises(js.LimitReachedError):
        js.with_updates(lambda s: s.count_up_to("n", 3))({"n": jnp.int32(3)})


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (
            jnp.ones(2),
            js.ShapeMismatchError,
            "Variable 'a/v' has shape (3,), the value has shape (2,)",
        ),
        (jnp.ones(3, jnp.int32), js.DtypeMismatchError, "'a/v'"),
    ],
)
def test_shapes_and_dtypes_never_change(value, error, text):
    with pytest.raises(error) as caught:
        js.with_updates(lambda s: (s / "a").assign("v", value))({"a/v": jnp.ones(3)})
    assert text in str(caught.value)
    with pytest.raises(error):
        js.declare(lambda s: (s.get_variable("a/v", (3,)), (s / "a").assign("v", value)))()


def test_a_variable_that_is_missing_can_t_be_assigned():
    with pytest.raises(js.MissingVariableError, match="close names: 'mean'"):
        js.with_updates(lambda s: s.assign("maen", 1.0))({"mean": 1.0})
    with pytest.raises(js.MissingVariableError):
        js.declare(lambda s: s.assign("mean", 1.0))()


def test_declaring_discards_what_is_assigned():
    with jax.checking_leaks():
        declared = js.declare(lambda s, x: average(s / "a", x))(X)
    assert list(declared) == ["a/mean", "a/w"]
    assert "uses" in repr(declared)
    np.testing.assert_array_equal(declared.init(jax.random.key(0))["a/mean"], np.zeros(3))
    # js.with_updates of a model can be declared too.
    again = js.declare(lambda s, x: js.with_updates(average)(s / "a", x)[0])(X)
    assert again.abstract() == declared.abstract()


def test_a_direct_call_of_a_model_that_assigns_shows_the_line():
    with pytest.raises(js.ScopeError) as caught:
        average(js.Scope(tree_of("a")) / "a", X)
    assert str(caught.value) == (
        "Variable 'a/mean' was assigned, but nothing collects updates here, and the new value "
        "would be lost. Apply the model with out, updates = js.with_updates(model)(tree, ...); "
        "the new state is state | updates."
    )


def test_assigning_when_with_updates_has_ended_is_an_error():
    kept = []
    js.with_updates(kept.append)({"n": jnp.int32(0)})
    with pytest.raises(js.ScopeError, match=r"js\.with_updates has ended"):
        kept[0].assign_add("n", 1)
    with pytest.raises(ZeroDivisionError):
        js.with_updates(lambda s: (kept.append(s), 1 / 0))({"n": jnp.int32(0)})
    with pytest.raises(js.ScopeError, match=r"js\.with_updates has ended"):
        kept[1].assign_add("n", 1)


# Inside transforms.

TRANSFORMS = {
    "jax.jit": lambda f: lambda s, x: jax.jit(f)(s, x),
    "jax.checkpoint": lambda f: lambda s, x: jax.checkpoint(f)(s, x),
    "jax.vmap": lambda f: lambda s, x: jax.vmap(f, (None, 0))(s, x[None])[0],
    "jax.lax.scan": lambda f: lambda s, x: lax.scan(lambda c, _: (f(s, c), None), x, length=1)[0],
    "jax.lax.cond": lambda f: lambda s, x: lax.cond(True, f, f, s, x),
    "jax.lax.switch": lambda f: lambda s, x: lax.switch(jnp.int32(0), [f, f], s, x),
    "jax.lax.fori_loop": lambda f: lambda s, x: lax.fori_loop(0, 1, lambda _, x: f(s, x), x),
    "jax.lax.while_loop": lambda f: (
        lambda s, x: lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, f(s, c[1])), (0, x))[1]
    ),
    "jax.lax.map": lambda f: lambda s, x: lax.map(lambda x: f(s, x), x[None])[0],
    "jax.grad": lambda f: lambda s, x: jax.grad(lambda x: f(s, x).sum())(x),
    "jax.value_and_grad": lambda f: lambda s, x: jax.value_and_grad(lambda x: f(s, x).sum())(x)[1],
    "jax.jvp": lambda f: lambda s, x: jax.jvp(lambda x: f(s, x), (x,), (x,))[0],
    "jax.vjp": lambda f: lambda s, x: jax.vjp(lambda x: f(s, x), x)[0],
    "jax.linearize": lambda f: lambda s, x: jax.linearize(lambda x: f(s, x), x)[0],
    "jax.jacfwd": lambda f: lambda s, x: jax.jacfwd(lambda x: f(s, x))(x),
    "jax.jacrev": lambda f: lambda s, x: jax.jacrev(lambda x: f(s, x))(x),
}


def add(scope, x):
    count = scope.get_variable("n", (), jnp.int32, trainable=False)
    scope.assign_add("n", 1)
    scope.record("x", x)
    return x + count.astype(x.dtype)


@pytest.mark.parametrize("declaring", [False, True], ids=["applied", "declared"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_bare_assign_inside_a_transform_names_it_and_shows_the_nested_form(transform, declaring):
    model = TRANSFORMS[transform](add)

    def run():
        if declaring:
            return js.declare(lambda s, x: model(s / "a", x))(X)
        return js.with_updates(lambda s, x: model(s / "a", x))({"a/n": jnp.int32(0)}, X)

    with pytest.raises(js.ScopeError) as caught:
        run()
    text = str(caught.value)
    assert f"Variable 'a/n' was assigned inside {transform}, from which" in text
    assert "y, updates = js.with_updates(block)(scope, x), return both" in text
    assert "scope.update(updates)" in text


@pytest.mark.parametrize("wrap", ["jit", "checkpoint", "both"])
def test_the_nested_form_returns_updates_from_a_transform(wrap):
    transforms = {
        "jit": jax.jit,
        "checkpoint": jax.checkpoint,
        "both": lambda f: jax.jit(jax.checkpoint(f)),
    }
    block = transforms[wrap](js.with_updates(average))

    def model(scope, x):
        a = scope.shared("a")
        for _ in range(2):
            x, updates = block(a, x)
            a.update(updates)
        return x

    def by_hand(mean, w, x):
        y, mean = average_by_hand(mean, w, x)
        return average_by_hand(mean, w, y)

    tree = tree_of("a")
    with jax.checking_leaks():
        assert list(js.declare(model)(X)) == ["a/mean", "a/w"]
        out, updates = js.with_updates(model)(tree, X)
    expected, mean = by_hand(tree["a/mean"], tree["a/w"], X)
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    np.testing.assert_allclose(updates["a/mean"], mean, rtol=1e-5)

    def loss(tree):
        out, updates = js.with_updates(model)(tree, X)
        return (out**2).sum() + (updates["a/mean"] ** 3).sum()

    def loss_by_hand(values):
        out, mean = by_hand(values["a/mean"], values["a/w"], X)
        return (out**2).sum() + (mean**3).sum()

    for gradient in (jax.grad, lambda f: jax.jit(jax.grad(f))):
        found = gradient(loss)(tree)
        wanted = jax.grad(loss_by_hand)(dict(tree))
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("remat", [False, True])
def test_updates_of_a_scanned_stack_are_stacked(remat):
    def body(x, layer):
        return js.with_updates(average)(layer, x)

    def model(scope, x):
        layers = scope.stacked("layers", 4)
        x, updates = lax.scan(jax.checkpoint(body) if remat else body, x, layers)
        layers.update(updates)
        return x

    def unrolled(scope, x):
        for i in range(4):
            x = average(scope / f"layers/{i}", x)
        return x

    with jax.checking_leaks():
        declared = js.declare(model)(X)
        assert declared["layers/mean"].shape == (4, 3)
    tree = js.VarTree(
        {
            f"layers/{i}/{name}": jax.random.normal(jax.random.key(i), shape) / 3
            for i in range(4)
            for name, shape in (("mean", (3,)), ("w", (3, 3)))
        }
    )
    stacked = js.VarTree(
        {
            f"layers/{name}": jnp.stack([tree[f"layers/{i}/{name}"] for i in range(4)])
            for name in ("mean", "w")
        }
    )
    expected, wanted = js.with_updates(unrolled)(tree, X)
    out, updates = jax.jit(js.with_updates(model))(stacked, X)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    assert list(updates) == ["layers/mean"]
    for i in range(4):
        np.testing.assert_allclose(
            updates["layers/mean"][i], wanted[f"layers/{i}/mean"], rtol=1e-5, atol=1e-6
        )


def test_updates_under_vmap_over_models_are_batched():
    many = js.VarTree({"mean": jnp.ones((5, 3)), "w": jnp.ones((5, 3, 3))})
    out, updates = jax.vmap(js.with_updates(average), (0, None))(many, X)
    expected, mean = average_by_hand(jnp.ones(3), jnp.ones((3, 3)), X)
    np.testing.assert_allclose(out, np.stack([expected] * 5), rtol=1e-5)
    np.testing.assert_allclose(updates["mean"], np.stack([mean] * 5), rtol=1e-6)


def test_nested_calls_keep_their_updates_to_themselves():
    def model(scope):
        before = scope.assign_add("n", 1)
        inner, updates = js.with_updates(lambda s: s.assign_add("n", 10))(scope)
        return before, inner, updates["n"], scope["n"]

    out, updates = js.with_updates(model)({"n": jnp.int32(0)})
    assert [int(v) for v in out] == [1, 11, 11, 1]
    assert int(updates["n"]) == 1


def test_with_updates_takes_a_scope_and_names_updates_from_there():
    scope = js.Scope(tree_of("deep/a")) / "deep"
    _, updates = js.with_updates(lambda s, x: average(s / "a", x))(scope, X)
    assert list(updates) == ["a/mean"]
    _, updates = js.with_updates(average)(js.Scope(tree_of("deep/a")) / "deep/a", X)
    assert list(updates) == ["mean"]


def test_rngs_go_with_a_tree():
    def model(scope):
        return jax.random.key_data(scope.rng("s"))

    key = jax.random.key(3)
    for wrap in (js.with_updates, js.with_records, lambda m: js.with_records(js.with_updates(m))):
        out, _ = wrap(model)({}, rngs=key)
        out = out[0] if isinstance(out, tuple) else out
        np.testing.assert_array_equal(out, jax.random.key_data(js.Scope({}, rngs=key).rng("s")))
        with pytest.raises(js.ScopeError, match="was given a scope, which has its own random"):
            wrap(model)(js.Scope({}), rngs=key)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"js\.with_updates needs a model, a callable; got 3"):
        js.with_updates(3)
    with pytest.raises(TypeError, match=r"js\.with_records needs a model"):
        js.with_records(js.VarTree())
    with pytest.raises(TypeError, match="A VarTree or another mapping is needed"):
        js.with_updates(average)(3, X)


def test_hidden_second_applications_still_count_as_sharing():
    def model(scope, x):
        y, _ = js.with_updates(average)(scope / "a", x)
        z, _ = js.with_updates(average)(scope / "a", y)
        return z

    with pytest.raises(js.VariableExistsError):
        js.declare(model)(X)
    with pytest.raises(js.VariableExistsError):
        model(js.Scope(tree_of("a")), X)


def test_a_training_loop_with_state_traces_once():
    traces = []

    @jax.jit
    def step(params, state, x):
        traces.append(None)

        def loss(params):
            out, updates = js.with_updates(average)(params | state, x)
            return (out**2).sum(), updates

        (_, updates), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), state | updates

    params, state = js.declare(average)(X).split(tree_of(""))
    for _ in range(4):
        params, state = step(params, state, X)
    assert len(traces) == 1
    assert (list(params), list(state)) == (["w"], ["mean"])


# Scopes that leave a call have the values of the moment when it ended.


def tick(scope, x):
    n = scope.get_variable("n", (), initializer=js.initializers.zeros, trainable=False)
    scope.assign("n", n + 1)
    return x + scope["n"]


def tick_and_return(scope, x):
    return tick(scope, x), scope


def stepped(scope, x):
    """One step of a loop that carries a scope."""
    (y, scope), updates = js.with_updates(tick_and_return)(scope, x)
    return scope, y, updates


def by_scan(scope, xs):
    def body(scope, x):
        scope, y, updates = stepped(scope, x)
        return scope, (y, updates["n"])

    scope, (ys, ns) = lax.scan(body, scope, xs)
    return scope, ys, ns[-1]


def by_fori_loop(scope, xs):
    def body(i, carry):
        scope, ys, _ = carry
        scope, y, updates = stepped(scope, xs[i])
        return scope, ys.at[i].set(y), updates["n"]

    return lax.fori_loop(0, len(xs), body, (scope, jnp.zeros_like(xs), jnp.float32(0)))


def by_while_loop(scope, xs):
    def body(carry):
        i, *rest = carry
        return i + 1, *by_fori_step(i, rest)

    def by_fori_step(i, carry):
        scope, ys, _ = carry
        scope, y, updates = stepped(scope, xs[i])
        return scope, ys.at[i].set(y), updates["n"]

    start = (0, scope, jnp.zeros_like(xs), jnp.float32(0))
    return lax.while_loop(lambda carry: carry[0] < len(xs), body, start)[1:]


def by_values(scope, xs):
    def body(scope, x):
        y, updates = js.with_updates(tick)(scope, x)
        return scope.with_values(js.VarTree(scope) | updates), (y, updates["n"])

    scope, (ys, ns) = lax.scan(body, scope, xs)
    return scope, ys, ns[-1]


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("loop", [by_scan, by_fori_loop, by_while_loop, by_values])
def test_state_goes_through_the_steps_of_a_loop_in_the_scope_that_is_carried(loop, wrap):
    @wrap
    def run(tree):
        scope = js.Scope(tree, rngs=jax.random.key(0))
        after, ys, n = loop(scope, jnp.zeros(4))
        return js.VarTree(after), js.VarTree(scope), ys, n

    tree = js.VarTree({"n": jnp.float32(0), "other": jnp.float32(7)})
    with jax.checking_leaks():
        after, before, ys, n = run(tree)
    assert ys.tolist() == [1, 2, 3, 4]
    assert float(n) == float(after["n"]) == 4
    assert (float(before["n"]), float(after["other"])) == (0, 7)


@pytest.mark.parametrize("loop", [by_scan, by_fori_loop, by_while_loop, by_values])
def test_the_state_of_a_loop_is_declared_where_the_loop_creates_it(loop):
    assert list(js.declare(lambda scope: loop(scope, jnp.zeros(4))[1])()) == ["n"]


def test_a_scope_that_leaves_keeps_its_values_wherever_it_is_kept():
    def model(scope):
        a = scope / "a"
        kept = {"in a list": [a], "in an object": types.SimpleNamespace(scope=a)}
        before = a / "deeper"
        a.assign("n", jnp.float32(5))
        (scope / "a/deeper").assign("m", jnp.float32(6))
        return a, kept, before, lambda: a["n"]

    scope = js.Scope({"a/n": jnp.float32(1), "a/deeper/m": jnp.float32(2)})
    (a, kept, before, read), updates = js.with_updates(model)(scope)
    for one in (a, kept["in a list"][0], kept["in an object"].scope):
        assert [float(leaf) for leaf in jax.tree.leaves(one)] == [6, 5]
        assert float(one["n"]) == float(jax.jit(lambda s: s["n"])(one)) == 5
    assert float(before["m"]) == 6
    assert float(read()) == 5
    assert float(scope["a/n"]) == 1  # what was passed is as it was
    assert sorted(updates) == ["a/deeper/m", "a/n"]
    with pytest.raises(js.ScopeError, match="with_updates has ended"):
        a.assign("n", 1.0)


def test_scopes_leave_nested_calls_with_the_values_of_their_own_call():
    def inner(scope):
        scope.assign("n", scope["n"] + 1)
        return scope

    def outer(scope):
        first, updates = js.with_updates(inner)(scope)
        scope.update(updates)
        second, _ = js.with_updates(inner)(scope)
        third, _ = js.with_updates(inner)(second)
        return first, scope, second, third

    scopes, updates = js.with_updates(outer)({"n": jnp.float32(0)})
    assert [float(scope["n"]) for scope in scopes] == [1, 1, 2, 3]
    assert float(updates["n"]) == 1


def test_a_scope_that_leaves_with_records_records_to_the_call_around():
    def inner(scope):
        scope.record("inside", 1)
        return scope

    def outer(scope):
        left, records = js.with_records(inner)(scope / "a")
        left.record("outside", 2)
        return records

    records, around = js.with_records(outer)({})
    assert (dict(records), dict(around)) == ({"inside": 1}, {"a/outside": 2})


# Branches that assign different variables.


def branch(name):
    def assigns(scope, x):
        n = scope.get_variable(name, (), initializer=js.initializers.zeros, trainable=False)
        scope.assign(name, n + x)
        return x

    return assigns


def gated(select, **options):
    def model(scope, x):
        branches = [js.with_updates(branch(name), **options) for name in ("n", "m")]
        branches.append(js.with_updates(lambda scope, x: x, **options))
        x, updates = select(branches, scope / "a", x)
        (scope / "a").update(updates)
        return x, updates

    return model


SELECTS = {
    "cond": lambda branches, scope, x: lax.cond(x > 0, branches[0], branches[1], scope, x),
    "switch": lambda branches, scope, x: lax.switch(jnp.int32(x), branches, scope, x),
}


@pytest.mark.parametrize("always", ["*", ["n", "m"], ["m", "n"]])
def test_branches_that_always_return_some_updates_agree(always):
    tree = js.VarTree({"a/m": jnp.float32(10), "a/n": jnp.float32(20)})
    for select, x, expected in (
        ("cond", 1.0, (10, 21)),
        ("cond", 0.0, (10, 20)),
        ("cond", -1.0, (9, 20)),
        ("switch", 0.0, (10, 20)),
        ("switch", 1.0, (11, 20)),
        ("switch", 2.0, (10, 20)),
    ):
        model = gated(SELECTS[select], always=always)
        with jax.checking_leaks():
            _, updates = jax.jit(js.with_updates(model))(tree, jnp.float32(x))
        assert (float(updates["a/m"]), float(updates["a/n"])) == expected
        declared = js.declare(model)(jnp.float32(x))
        assert list(declared) == ["a/n", "a/m"]
        assert js.init(model)(jax.random.key(0), jnp.float32(x))["a/m"] == 0


def test_what_always_selects_must_exist_and_is_relative_to_the_scope():
    tree = {"a/n": jnp.float32(1), "a/b/m": jnp.float32(2)}
    _, updates = js.with_updates(lambda scope: None, always="b/*")(js.Scope(tree) / "a")
    assert dict(updates) == {"b/m": 2}
    with pytest.raises(js.SelectorError, match="close names: 'n'"):
        js.with_updates(lambda scope: None, always="nn")(js.Scope(tree) / "a")


@pytest.mark.parametrize("apply", ["with_updates", "with_records", "declare", "init", "inline"])
@pytest.mark.parametrize(("select", "second"), [("cond", "false_fun"), ("switch", "branch")])
def test_branches_that_assign_different_variables_are_named(select, second, apply):
    model = gated(SELECTS[select])
    tree = js.VarTree({"a/m": jnp.float32(10), "a/n": jnp.float32(20)})
    x, key = jnp.float32(1), jax.random.key(0)

    def created_outside(scope, x):
        for name in ("n", "m"):
            (scope / "a").get_variable(name, (), initializer=js.initializers.zeros)
        return model(scope, x)

    calls = {
        "with_updates": lambda: js.with_updates(model)(tree, x),
        "with_records": lambda: js.with_records(model)(tree, x),
        "declare": lambda: js.declare(model)(x),
        "init": lambda: js.init(model)(key, x),
        "inline": lambda: js.init(created_outside, inline=True)(key, x),
    }
    with pytest.raises(js.BranchError) as caught:
        calls[apply]()
    text = str(caught.value)
    assert f"The branches of jax.lax.{select} assign different variables: 'n' only by" in text
    assert f"'m' only by {second}" in text
    assert "js.with_updates(branch, always=['m', 'n'])" in text
    assert isinstance(caught.value.__cause__, TypeError)


def test_other_errors_of_branches_are_jaxs_own():
    def model(scope, x):
        return lax.cond(x > 0, lambda x: x, lambda x: (x, x), x)

    with pytest.raises(TypeError) as caught:
        js.with_updates(model)({}, jnp.float32(1))
    assert not isinstance(caught.value, js.JscopeError)


# Records.


def test_records_are_collected_by_name_and_selected():
    def model(scope, x):
        scope.record("input", x)
        y = average(scope / "a", x)
        scope.record("stats", {"mean": y.mean(), "max": y.max()})
        return y

    tree = tree_of("a")
    with jax.checking_leaks():
        (_, updates), records = jax.jit(js.with_records(js.with_updates(model)))(tree, X)
    expected, mean = average_by_hand(tree["a/mean"], tree["a/w"], X)
    assert list(records) == ["a/centred", "input", "stats"]
    assert list(updates) == ["a/mean"]
    np.testing.assert_allclose(records["a/centred"], X - mean[None], rtol=1e-6)
    np.testing.assert_allclose(records["stats"]["max"], expected.max(), rtol=1e-5)
    (_, _), some = js.with_records(js.with_updates(model), "a/*")(tree, X)
    assert list(some) == ["a/centred"]
    # In the other order.
    (_, records), updates = js.with_updates(js.with_records(model, ["input"]))(tree, X)
    assert (list(records), list(updates)) == (["input"], ["a/mean"])


def test_without_with_records_record_does_nothing():
    scope = js.Scope({})
    assert scope.record("x", X) is None
    assert scope.record("x", X) is None
    js.declare(lambda s, x: (s.record("x", x), s.record("x", x)))(X)
    kept = []
    js.with_records(kept.append)({})
    assert kept[0].record("x", X) is None


def test_a_name_is_recorded_once():
    with pytest.raises(js.NameCollisionError) as caught:
        js.with_records(lambda s: [(s / "a").record("x", i) for i in range(2)])({})
    assert str(caught.value) == (
        "'a/x' was recorded already. A loop needs a name for each: scope.record(f'x_{i}', value)."
    )


def test_a_selector_that_matches_no_record_is_an_error():
    with pytest.raises(js.SelectorError, match="close names: 'input'"):
        js.with_records(lambda s: s.record("input", X), "inptu")({})
    out, records = js.with_records(lambda s: 3, None)({})
    assert (out, len(records)) == (3, 0)


@pytest.mark.parametrize("transform", [*TRANSFORMS])
def test_a_record_by_a_scope_from_outside_a_transform_is_an_error_if_selected(transform):
    def body(scope, x):
        scope.record("inner", x)
        return x

    def model(scope, x):
        scope.record("outer", x)
        return TRANSFORMS[transform](lambda _, x: body(scope, x))(js.Scope({}), x)

    with jax.checking_leaks():
        _, records = js.with_records(model, "outer")({}, X)
        assert list(records) == ["outer"]
        with pytest.raises(js.ScopeError) as caught:
            js.with_records(model)({}, X)
    assert "The records 'inner' were made inside a transform" in str(caught.value)
    assert "y, records = js.with_records(block)(scope, x)" in str(caught.value)


def test_records_leave_a_scan_as_results():
    def block(scope, x):
        x = x @ scope.get_variable("w", (3, 3))
        scope.record("out", x)
        return x

    def model(scope, x):
        x, records = lax.scan(
            lambda x, s: js.with_records(block)(s, x), x, scope.stacked("layers", 2)
        )
        (scope / "layers").record("out", records["out"])
        return x

    w = jax.random.normal(jax.random.key(0), (2, 3, 3))
    _, records = js.with_records(model)({"layers/w": w}, X)
    np.testing.assert_allclose(records["layers/out"][0], X @ w[0], rtol=1e-5)
    np.testing.assert_allclose(records["layers/out"][1], X @ w[0] @ w[1], rtol=1e-5)
    assert js.declare(model)(X)["layers/w"].shape == (2, 3, 3)


REBUILT = {
    "stop_gradient": lax.stop_gradient,
    "tree.map": lambda scope: jax.tree.map(lambda leaf: leaf, scope),
    "flatten": lambda scope: jax.tree.unflatten(*jax.tree.flatten(scope)[::-1]),
}


@pytest.mark.parametrize("rebuilt", REBUILT.values(), ids=REBUILT)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_assigning_through_a_scope_that_jax_rebuilt_says_so_and_what_to_write(wrap, rebuilt):
    def model(scope, x):
        return average(rebuilt(scope / "a"), x)

    def cured(scope, x):
        y, updates = js.with_updates(average)(rebuilt(scope / "a"), x)
        (scope / "a").update(updates)
        return y

    tree = tree_of("a")
    for run in (lambda: wrap(js.with_updates(model))(tree, X), lambda: js.declare(model)(X)):
        with pytest.raises(js.ScopeError) as caught:
            run()
        text = str(caught.value)
        assert text.startswith("Variable 'a/mean' was assigned through a scope that was rebuilt")
        assert "inside" not in text
        assert "y, updates = js.with_updates(block)(rebuilt, x)" in text
        assert "scope.update(updates)" in text
    out, updates = wrap(js.with_updates(cured))(tree, X)
    expected, mean = average_by_hand(tree["a/mean"], tree["a/w"], X)
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    np.testing.assert_allclose(updates["a/mean"], mean, rtol=1e-6)
    assert list(js.declare(cured)(X)) == ["a/mean", "a/w"]


# What is made of a model has its name and its arguments.


def normalized(scope, x, train, *, scale=1.0):
    """Normalize a batch."""
    mean = scope.get_variable("mean", (3,), initializer=js.initializers.zeros, trainable=False)
    if train:
        mean = scope.assign("mean", 0.5 * mean + 0.5 * x.mean(axis=0))
        scope.record("x", x)
    return (x - mean[None]) * scale


class Normalized:
    def __call__(self, scope, x, train):
        return normalized(scope, x, train)

    def method(self, scope, x, train):
        return normalized(scope, x, train)


MODELS = {
    "function": normalized,
    "partial": functools.partial(normalized, scale=2.0),
    "object": Normalized(),
    "method": Normalized().method,
    "template": js.make_template("normalized", normalized),
}
WRAPPERS = {
    "with_updates": js.with_updates,
    "with_records": lambda model: js.with_records(js.with_updates(model)),
    "selected": lambda model: js.with_updates(js.with_records(model, "**")),
}


def trees_in(results):
    def is_tree(part):
        return isinstance(part, js.VarTree)

    return filter(is_tree, jax.tree.leaves(results, is_leaf=is_tree))


@pytest.mark.parametrize("static", [{"static_argnames": "train"}, {"static_argnums": 2}])
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_static_argument_of_the_model_can_be_passed_by_position(model, wrap, static):
    state = js.init(model)(jax.random.key(0), X, True)
    wrapped = jax.jit(wrap(model), **static)
    (mean,) = state
    (updates,) = (tree for tree in trees_in(wrapped(state, X, True)) if mean in tree)
    np.testing.assert_allclose(updates[mean], 0.5 * X.mean(axis=0))


def test_a_static_argument_by_position_goes_with_random_streams():
    def noisy(scope, x, train):
        return js.layers.dropout(scope, x, training=train)

    wrapped = jax.jit(js.with_updates(noisy), static_argnames="train")
    key = jax.random.key(1)
    out, _ = wrapped({}, X, True, rngs=key)
    np.testing.assert_array_equal(out, noisy(js.Scope({}, rngs=key), X, True))


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapper_has_the_models_name_arguments_and_documentation(wrap):
    wrapped = wrap(normalized)
    assert wrapped.__name__ == "normalized"
    assert wrapped.__doc__ == "Normalize a batch."
    assert list(inspect.signature(wrapped).parameters) == ["scope", "x", "train", "scale"]
    bound = wrap(functools.partial(normalized, train=True))
    assert bound.__name__ == "normalized"
    assert inspect.signature(bound).parameters["train"].default is True
    assert wrap(Normalized()).__name__ == "Normalized"


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_jaxs_programs_and_errors_name_the_model(wrap):
    def needs_value(scope, x):
        return int(x.sum())

    step = jax.jit(wrap(functools.partial(normalized, train=True)))
    assert "jit_normalized" in step.lower({"mean": jnp.zeros(3)}, X).as_text()
    where = f"the function needs_value at {__file__}:{needs_value.__code__.co_firstlineno} for jit"
    for model in (needs_value, functools.partial(needs_value)):
        with pytest.raises(jax.errors.ConcretizationTypeError) as caught:
            jax.jit(wrap(model))({}, X)
        assert where in str(caught.value)
        assert "depends on the value of the argument x" in str(caught.value)


def test_what_declares_and_initialises_takes_the_models_other_arguments():
    assert list(inspect.signature(js.declare(normalized)).parameters) == ["x", "train", "scale"]
    for inline in (False, True):
        init = js.init(normalized, inline=inline)
        assert list(inspect.signature(init).parameters) == ["key", "x", "train", "scale"]
        assert init.__name__ == js.declare(normalized).__name__ == "normalized"
        variables = jax.jit(init, static_argnames="train")(jax.random.key(0), X, True)
        np.testing.assert_array_equal(variables["mean"], np.zeros(3))

    def keyed(scope, key):
        return scope.get_variable("w", key.shape)

    assert list(inspect.signature(js.init(keyed)).parameters) == ["key_", "key"]
    assert list(inspect.signature(js.declare(lambda *args: None)).parameters) == ["args"]


def test_a_function_without_a_signature_can_be_a_model():
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(getattr)
    value, updates = js.with_updates(getattr)({"w": X}, "name")
    assert (value, len(updates)) == ("", 0)


def recording(scope, x):
    scope.record("inner", x)
    return x


@pytest.mark.parametrize("transform", [*TRANSFORMS])
def test_a_record_in_the_body_of_a_transform_is_an_error_if_selected(transform):
    def model(scope, x):
        scope.record("outer", x)
        return TRANSFORMS[transform](recording)(scope / "a/b", x)

    for selector in (None, "**", "a/b/inner", ["a/*/inner"], lambda name, _: "inner" in name):
        with pytest.raises(js.ScopeError) as caught:
            js.with_records(model, selector)({}, X)
        assert "The records 'a/b/inner' were made inside a transform" in str(caught.value)
        assert "y, records = js.with_records(block)(scope, x)" in str(caught.value)
    with jax.checking_leaks():
        for selector in ("outer", ["outer"], lambda name, _: name == "outer"):
            _, records = js.with_records(model, selector)({}, X)
            assert list(records) == ["outer"]
        js.declare(model)(X)  # where nobody requests records
        model(js.Scope({}), X)


def test_a_body_is_traced_apart_where_records_are_requested_and_once_if_all_are():
    traces = []

    @jax.jit
    def block(scope, x):
        traces.append(scope.name)
        _, records = js.with_records(recording)(scope, x)
        return records

    def model(scope, x):
        return [block(scope / f"layer_{i}", x) for i in range(6)]

    model(js.Scope({}), X)
    assert len(traces) == 1
    js.with_records(model)({}, X)
    js.with_records(model)({}, X)
    assert len(traces) == 2
    for _ in range(2):
        with pytest.raises(js.SelectorError):
            js.with_records(model, "layer_3/*")({}, X)
    assert len(traces) == 2 + 6
