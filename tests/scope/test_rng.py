"""Random keys of a scope: one rule, the same through every transform, never the same twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from keys_by_definition import key_by_definition

import jscope as js
from jscope._random.keys import ROOT_LANES, below, fold_integer
from jscope._scope.call_sites import call_site

ROOT = jax.random.key(7)


def same(a, b):
    data = [k if k.dtype == np.uint32 else jax.random.key_data(k) for k in (a, b)]
    return bool(jnp.array_equal(*data))


@pytest.mark.parametrize("rngs", [ROOT, {"dropout": ROOT}, {"dropout": ROOT, "noise": ROOT}])
def test_a_draw_has_the_key_of_the_scope_s_path_and_the_stream(rngs):
    scope = js.Scope({}, rngs=rngs) / "enc" / "layer_0"
    assert same(scope.rng("dropout"), key_by_definition(ROOT, "enc", "layer_0", "rng:dropout"))
    named = key_by_definition(ROOT, "enc", "layer_0", "rng:dropout", "a", "b")
    assert same(scope.rng("dropout", name="a/b"), named)
    assert same(js.Scope({}, rngs=rngs).rng("dropout"), key_by_definition(ROOT, "rng:dropout"))


def test_no_draw_has_a_variable_s_key_and_streams_of_one_key_differ():
    scope = js.Scope({}, rngs=ROOT) / "a"
    variable = key_by_definition(ROOT, "a", "w")
    keys = [
        variable,
        scope.rng("x"),
        scope.rng("y"),
        scope.rng("x", name="w"),
        (scope / "w").rng("x"),
    ]
    assert len({tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in keys}) == len(keys)


@pytest.mark.parametrize(
    "root",
    [
        jax.random.key(3),
        jax.random.key(3, impl="rbg"),
        jax.random.key(3, impl="unsafe_rbg"),
        jax.random.PRNGKey(3),
    ],
)
def test_keys_are_of_the_root_s_kind(root):
    key = (js.Scope({}, rngs={"s": root}) / "a").rng("s")
    assert (key.dtype, key.shape) == (root.dtype, root.shape)
    assert same(key, key_by_definition(root, "a", "rng:s"))


def draws(scope, steps=3):
    """Keys' data by the layers of a loop."""
    return jnp.stack([jax.random.key_data((scope / f"layers/{i}").rng("s")) for i in range(steps)])


def one(scope):
    return jax.random.key_data(scope.rng("s"))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("rngs", ["one key", "a dict"])
def test_draws_are_the_same_in_a_loop_a_scan_a_map_under_jit_and_remat(impl, rngs):
    root = jax.random.key(1, impl=impl)
    scope = js.Scope({"w": jnp.ones(2)}, rngs=root if rngs == "one key" else {"s": root, "t": root})
    layers = scope.stacked("layers", 3)
    expected = np.stack(
        [jax.random.key_data(key_by_definition(root, "layers", str(i), "rng:s")) for i in range(3)]
    )

    def scanned(body):
        return lax.scan(lambda c, s: (c, body(s)), 0, layers)[1]

    with jax.checking_leaks():
        found = [
            draws(scope),
            jax.jit(draws)(scope),
            scanned(one),
            scanned(jax.checkpoint(jax.jit(one))),
            jax.jit(jax.vmap(one))(layers),
            jax.vmap(one)(layers),
            lax.map(one, layers),
            jnp.stack([jax.jit(one)(scope / f"layers/{i}") for i in range(3)]),
        ]
    for keys in found:
        np.testing.assert_array_equal(keys, expected)


def test_draws_in_stacks_of_stacks_are_those_of_the_loops():
    scope = js.Scope({}, rngs=ROOT)
    expected = [
        [
            jax.random.key_data(key_by_definition(ROOT, "a", str(i), "b", "c", str(j), "rng:s"))
            for j in range(3)
        ]
        for i in range(2)
    ]

    def inner(s):
        return jax.vmap(one)(s.stacked("b/c", 3))

    found = lax.scan(lambda c, s: (c, inner(s)), 0, scope.stacked("a", 2))[1]
    np.testing.assert_array_equal(found, np.array(expected))
    # Both stacked before any is sliced.
    both = scope.stacked("a", 2).stacked("b/c", 3)
    np.testing.assert_array_equal(jax.vmap(jax.vmap(one))(both), np.array(expected))


def test_fold_changes_draws_and_not_variables():
    tree = js.VarTree({"a/w": jnp.ones(3)})
    scope = js.Scope(tree, rngs=ROOT) / "a"
    folded = scope.fold(5)
    np.testing.assert_array_equal(folded.get_variable("w", (3,)), np.ones(3))
    assert folded.name == "a"
    keys = [scope.rng("s"), folded.rng("s"), scope.fold(6).rng("s"), folded.fold(6).rng("s")]
    assert len({tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in keys}) == 4
    assert same(keys[1], key_by_definition(ROOT, "a", 5, "rng:s"))
    assert same(keys[3], key_by_definition(ROOT, "a", 5, 6, "rng:s"))


@pytest.mark.parametrize("i", [0, 1, -1, 2**31 - 1, -(2**31)])
def test_traced_and_concrete_integers_fold_to_the_same(i):
    def draw(scope, i):
        return jax.random.key_data(scope.fold(i).rng("s"))

    def scope():
        return js.Scope({}, rngs=ROOT) / "a"

    expected = draw(scope(), i)
    traced = jax.jit(draw)(scope(), jnp.int32(i))
    np.testing.assert_array_equal(traced, expected)
    for concrete in (np.int64(i), jnp.int32(i), np.int32(i)):
        np.testing.assert_array_equal(draw(scope(), concrete), expected)
    if 0 <= i < 256:
        narrow = jax.jit(draw)(scope(), jnp.uint8(i))
        np.testing.assert_array_equal(narrow, expected)


def test_wide_integers_fold_with_all_their_bits():
    scope = js.Scope({}, rngs=ROOT)

    def draw(i):
        return jax.random.key_data(scope.fold(i).rng("s")).tolist()

    assert draw(3) != draw(3 + 2**32)
    with jax.enable_x64(True):
        lanes = below(ROOT_LANES, "a")
        wide = jax.jit(lambda i: fold_integer(lanes, i))
        for i in (3, -3, 3 + 2**40, -(2**40)):
            assert wide(jnp.int64(i)) == fold_integer(lanes, i)


def test_fold_in_a_scan_over_time_gives_each_step_a_mask_of_its_own():
    scope = js.Scope({}, rngs=ROOT) / "cell"

    def step(carry, t):
        return carry, jax.random.key_data(scope.fold(t).rng("s"))

    with jax.checking_leaks():
        found = lax.scan(step, 0, jnp.arange(4))[1]
    expected = [jax.random.key_data(scope.fold(t).rng("s")) for t in range(4)]
    np.testing.assert_array_equal(found, jnp.stack(expected))


def test_a_declaration_gives_abstract_keys_whatever_the_streams():
    shapes = []

    def model(scope, x):
        key = scope.fold(3).rng("anything")
        shapes.append((key.shape, jnp.issubdtype(key.dtype, jax.dtypes.prng_key)))
        lax.scan(lambda c, s: (c, one(s)), 0, scope.stacked("layers", 2))
        return jax.random.normal(key, x.shape)

    with jax.checking_leaks():
        assert len(js.declare(model)(jnp.ones(3))) == 0
    assert shapes == [((), True)]


def test_a_missing_stream_names_those_there_are():
    scope = js.Scope({}, rngs={"noise": ROOT, "dropout": ROOT}) / "a"
    with pytest.raises(js.MissingStreamError) as caught:
        scope.rng("dropuot")
    assert str(caught.value) == (
        "The scope 'a' has no random stream 'dropuot' (it has 'dropout', 'noise'). Write "
        "js.Scope(tree, rngs={'dropuot': key}), or rngs=key for all streams."
    )
    with pytest.raises(KeyError, match="it has none"):
        js.Scope({}).rng("dropout")


@pytest.mark.parametrize("declaring", [True, False])
@pytest.mark.parametrize("name", [None, "mask"])
def test_drawing_twice_is_an_error_that_shows_both_places(declaring, name):
    def model(scope):
        scope.rng("s", name=name)
        scope.rng("s", name=name)

    def run():
        if declaring:
            js.declare(lambda scope: model(scope / "a"))()
        else:
            model(js.Scope({}, rngs=ROOT) / "a")

    with pytest.raises(js.RandomStreamError) as caught:
        run()
    text = str(caught.value)
    assert "A key of the stream 's' was drawn already in the scope 'a'" in text
    assert (
        "Write another name= for" if name else "Write scope.rng('s', name='second') for"
    ) in text
    assert "scope.fold(step)" in text
    assert text.count(", in test_drawing_twice") >= 2


def test_other_names_scopes_streams_folds_and_traces_are_other_draws():
    scope = js.Scope({}, rngs=ROOT)
    scope.rng("s")
    scope.rng("t")
    scope.rng("s", name="second")
    (scope / "a").rng("s")
    scope.fold(0).rng("s")
    scope.fold(1).rng("s")
    jax.jit(lambda: jax.random.key_data(scope.rng("s")))()
    with pytest.raises(js.RandomStreamError):
        scope.fold(0).rng("s")
    with pytest.raises(js.RandomStreamError):
        (scope / "a").rng("s")


def test_a_shared_scope_draws_once_or_says_that_it_is_another():
    def tower(scope, x):
        return jnp.where(jax.random.bernoulli(scope.rng("dropout"), 0.5, x.shape), x, 0)

    scope = js.Scope({}, rngs=ROOT)
    tower(scope.shared("t"), jnp.ones(3))
    with pytest.raises(js.RandomStreamError):
        tower(scope.shared("t"), jnp.ones(3))
    tower(scope.shared("t").fold(1), jnp.ones(3))


def test_streams_of_a_root_scope_are_checked():
    with pytest.raises(js.KeyArgumentError, match=r"Write jax.random.key\(3\)"):
        js.Scope({}, rngs=3)
    with pytest.raises(js.KeyArgumentError):
        js.Scope({}, rngs={"a": jax.random.split(ROOT)})
    with pytest.raises(js.VariableNameError):
        js.Scope({}, rngs={"*": ROOT})
    with pytest.raises(js.VariableNameError):
        js.Scope({}, rngs=ROOT).rng("drop out")
    with pytest.raises(js.VariableNameError):
        js.Scope({}, rngs=ROOT).rng("dropout", name="")
    assert repr(js.Scope({}, rngs={})) == repr(js.Scope({}))
    assert repr(js.Scope({}, rngs={"b": ROOT, "a": ROOT})) == (
        "Scope('', 0 variables, streams 'a', 'b')"
    )


@pytest.mark.parametrize("i", [1.0, True, "1", np.ones(2, int), None])
def test_fold_takes_integer_scalars(i):
    with pytest.raises(TypeError, match=r"scope\.fold takes an integer scalar"):
        js.Scope({}, rngs=ROOT).fold(i)


@pytest.mark.parametrize("i", [jnp.float32(1), jnp.ones(2, int)])
def test_fold_takes_traced_integer_scalars(i):
    with pytest.raises(TypeError, match=r"scope\.fold takes an integer scalar"):
        jax.jit(lambda i: js.Scope({}, rngs=ROOT).fold(i).name)(i)


def test_a_scope_without_streams_folds_and_goes_through_transforms():
    scope = js.Scope({"w": jnp.ones(2)})
    out = lax.fori_loop(0, 3, lambda t, x: x + scope.fold(t)["w"], jnp.zeros(2))
    np.testing.assert_array_equal(out, np.full(2, 3.0))


def test_keys_and_words_have_names_in_key_paths():
    scope = js.Scope({"a/w": 1.0}, rngs={"s": ROOT}) / "a"
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(scope)]
    assert paths == ["['w']", "['(name hash 0)']", "['(name hash 1)']", "['s']"]
    assert call_site()
