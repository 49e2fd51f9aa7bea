"""A scope bound to values: look-ups, their errors, and what JAX sees of it."""

import functools
import gc
import pickle
import re
import subprocess
import sys
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jscope as js
from jscope._errors import (
    DtypeMismatchError,
    MissingVariableError,
    NameCollisionError,
    ScopeError,
    ShapeMismatchError,
    VariableExistsError,
    VariableNameError,
)
from jscope._variables.request import AUTO_REUSE

components = st.text("ab0-._Z", min_size=1, max_size=3).filter(lambda c: c not in (".", ".."))
names = st.lists(components, min_size=1, max_size=4).map("/".join)


@pytest.fixture
def tree():
    return js.VarTree(
        {
            "enc/layer_0/w": jnp.ones((2, 3)),
            "enc/layer_0/b": jnp.zeros(3),
            "enc/layer_1/w": jnp.full((2, 3), 2.0, jnp.float32),
            "enc/layer_1/b": jnp.zeros(3),
            "step": jnp.int32(7),
        }
    )


def structure(scope):
    return jax.tree.structure(scope)


# Where a scope is, and what it finds there.


@given(st.dictionaries(names, st.integers(), min_size=1, max_size=12), st.data())
def test_a_scope_finds_exactly_the_variables_below_it(flat, data):
    name = data.draw(st.sampled_from(sorted(flat)))
    cut = data.draw(st.integers(0, name.count("/")))
    parts = name.split("/")
    scope, rest = "/".join(parts[:cut]), "/".join(parts[cut:])
    at_once = js.Scope(flat) / scope if scope else js.Scope(flat)
    step_by_step = functools.reduce(lambda s, part: s / part, parts[:cut], js.Scope(flat))
    for found in (at_once, step_by_step):
        assert found.name == scope
        assert found[rest] == flat[name]
        assert found.has(rest)
        below = {n for n in flat if n.startswith(scope + "/")} if scope else set(flat)
        assert len(jax.tree.leaves(found)) == len(below)
    assert structure(at_once) == structure(step_by_step)


def test_has_answers_for_variables_not_for_scopes(tree):
    scope = js.Scope(tree)
    assert scope.has("step")
    assert scope.has("enc/layer_0/w")
    assert not scope.has("enc")
    assert not scope.has("w")
    assert not (scope / "step").has("w")


def test_get_variable_gives_the_value_itself(tree):
    layer = js.Scope(tree) / "enc" / "layer_0"
    assert layer.get_variable("w", (2, 3)) is tree["enc/layer_0/w"]
    assert layer.get_variable("b", 3) is tree["enc/layer_0/b"]
    assert js.Scope(tree).get_variable("step", dtype="int32") is tree["step"]
    assert js.Scope(tree).get_variable("enc/layer_1/w") is tree["enc/layer_1/w"]


def test_several_trees_are_merged_and_none_is_changed(tree):
    params, state = js.partition(tree, "enc/**")
    scope = js.Scope(params, state, {})
    assert structure(scope) == structure(js.Scope(tree))
    assert scope["step"] is tree["step"]
    assert len(params) == 4
    assert len(state) == 1


def test_nested_dicts_are_trees_too():
    assert (js.Scope({"a": {"b": 3}}) / "a")["b"] == 3


def test_a_scope_is_its_own_context_manager(tree):
    scope = js.Scope(tree)
    with scope.variable_scope("enc", reuse=True) as enc:
        assert enc.name == "enc"
        assert enc.reuse is True
    assert enc.has("layer_0/w")
    with pytest.raises(ZeroDivisionError), enc:
        raise ZeroDivisionError


def test_reuse_is_inherited_and_cannot_be_undone(tree):
    scope = js.Scope(tree)
    assert scope.reuse is False
    shared = scope.shared("enc")
    assert shared.reuse is AUTO_REUSE
    assert (shared / "layer_0").reuse is AUTO_REUSE
    assert shared.variable_scope("layer_0", reuse=False).reuse is AUTO_REUSE
    assert shared.variable_scope("layer_0", reuse=True).reuse is True
    assert repr(AUTO_REUSE) == "AUTO_REUSE"


def test_a_scope_shows_where_it_is_and_how_much_is_below(tree):
    assert repr(js.Scope(tree)) == "Scope('', 5 variables)"
    assert repr(js.Scope(tree) / "enc/layer_0") == "Scope('enc/layer_0', 2 variables)"


# Errors: the whole path and both sides, under jit too.


def eager(function, scope):
    return function(scope)


def jitted(function, scope):
    return jax.jit(function)(scope)


@pytest.mark.parametrize("run", [eager, jitted])
def test_another_shape_or_dtype_is_an_error_that_shows_both(tree, run):
    layer = js.Scope(tree) / "enc/layer_0"
    with pytest.raises(ShapeMismatchError) as caught:
        run(lambda s: s.get_variable("w", (2, 4)), layer)
    assert str(caught.value).startswith(
        "Trying to share variable enc/layer_0/w, but specified shape (2, 4) and found shape (2, 3)."
    )
    assert "js.declare(model)(...).check(tree)" in str(caught.value)
    with pytest.raises(DtypeMismatchError) as caught:
        run(lambda s: s.get_variable("w", (2, 3), jnp.bfloat16), layer)
    assert str(caught.value).startswith(
        "Trying to share variable enc/layer_0/w, but specified dtype bfloat16 and found dtype "
        "float32."
    )
    with pytest.raises(DtypeMismatchError, match="specified dtype int32 and found dtype float32"):
        run(
            lambda s: s.variable_scope("layer_0", dtype="int32").get_variable("w"),
            js.Scope(tree) / "enc",
        )


def test_a_request_that_failed_is_no_use(tree):
    layer = js.Scope(tree) / "enc/layer_0"
    for wrong in ((2, 4), (3, 2)):
        with pytest.raises(ShapeMismatchError):
            layer.get_variable("w", wrong)
    assert layer.get_variable("w", (2, 3)) is tree["enc/layer_0/w"]
    with pytest.raises(VariableExistsError):
        layer.get_variable("w", (2, 4))
    with pytest.raises(VariableExistsError):
        layer.get_variable("w", (2, 3))


@pytest.mark.parametrize("run", [eager, jitted])
def test_an_initial_value_of_another_shape_is_an_error_and_its_dtype_is_not(tree, run):
    layer = js.Scope(tree) / "enc/layer_0"
    with pytest.raises(ShapeMismatchError, match=r"specified shape \(5,\) and found shape \(3,\)"):
        run(lambda s: s.get_variable("b", initializer=np.zeros(5)), layer)
    # A dtype that nobody named isn't checked.
    assert run(lambda s: s.get_variable("b", initializer=np.zeros(3, np.int32)), layer).shape == (
        3,
    )


@pytest.mark.parametrize("run", [eager, jitted])
@pytest.mark.parametrize(
    ("where", "name", "hints"),
    [
        ("", "enc/layer_0/ww", ["'enc/layer_0/ww'", "close names: 'enc/layer_0/w'"]),
        ("enc/layer_0", "ww", ["'enc/layer_0/ww'", "close names: 'enc/layer_0/w'"]),
        ("", "enc", ["it is a scope of 4 variables", "scope / 'enc'"]),
        ("enc", "layer_0", ["No variable at 'enc/layer_0'", "scope of 2", "scope / 'layer_0'"]),
        ("", "layer_0/w", ["but 'enc/layer_0/w' further down", "scope / 'enc'"]),
        ("enc", "w", ["at 'enc/w', but 'layer_0/w', 'layer_1/w' further", "scope / 'layer_0'"]),
        ("enc/layer_0/x", "w", ["'enc/layer_0/x/w'", "close names: 'enc/layer_0/w'"]),
        ("zzz", "qqq", ["'zzz/qqq' (no close name among 5: "]),
    ],
)
def test_a_missing_variable_gets_the_right_hint(tree, run, where, name, hints):
    scope = js.Scope(tree) / where if where else js.Scope(tree)
    for read in (lambda s: s.get_variable(name), lambda s: s[name]):
        with pytest.raises(MissingVariableError) as caught:
            run(read, scope)
        assert isinstance(caught.value, KeyError)
        assert isinstance(caught.value, ValueError)
        for hint in [*hints, "A bound scope never creates variables: js.init this model"]:
            assert hint in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_tree_where_a_scope_belongs_gets_the_line_to_write(tree):
    with pytest.raises(AttributeError, match=r"as in model\(js\.Scope\(tree\), x\)"):
        (lambda scope: scope.get_variable("step"))(tree)
    with pytest.raises(TypeError, match=r"for a scope write js\.Scope\(tree\) / 'enc'"):
        (lambda scope: scope / "enc")(tree)


def test_a_scope_takes_trees_with_different_names(tree):
    with pytest.raises(ScopeError, match="this is a scope already"):
        js.Scope(js.Scope(tree))
    with pytest.raises(TypeError, match="another mapping is needed, got ArrayImpl"):
        js.Scope(jnp.ones(3))
    with pytest.raises(NameCollisionError) as caught:
        js.Scope(tree, {"new": 1}, {"step": 1, "enc/layer_0/w": 2})
    assert "'enc/layer_0/w', 'step' are in two of them" in str(caught.value)
    assert "js.Scope(a | b)" in str(caught.value)


def test_what_is_no_name_is_refused(tree):
    scope = js.Scope(tree)
    with pytest.raises(TypeError, match="takes a string, got 3 of int"):
        scope / 3
    for name in ("", "/enc", "enc/", "a//b", "..", "w:0"):
        for ask in (scope.get_variable, scope.has, scope.__getitem__, scope.variable_scope):
            with pytest.raises(VariableNameError):
                ask(name)
        with pytest.raises(VariableNameError):
            scope / name
    with pytest.raises(VariableNameError, match="must be a string, got 0 of type int"):
        scope.get_variable(0)


@pytest.mark.parametrize("reuse", ["auto", 1, 0, np.True_, [True], np.ones(2)])
def test_reuse_is_one_of_four(tree, reuse):
    # 1 and numpy.True_ are equal to True, but `is True` is how reuse is looked at.
    with pytest.raises(ValueError, match=r"True or False or None or js\.AUTO_REUSE, got"):
        js.Scope(tree).variable_scope("enc", reuse=reuse)


def test_a_dtype_is_one_of_jax(tree):
    scope, other = js.Scope(tree), js.Scope(tree)
    assert scope.get_variable("enc/layer_0/w", dtype=float).dtype == np.float32
    assert other.variable_scope("enc", dtype=float).get_variable("layer_0/w").dtype == np.float32
    with pytest.raises(DtypeMismatchError, match="dtype of variable 'step' must be one of JAX's"):
        scope.get_variable("step", dtype="floot32")
    with pytest.raises(DtypeMismatchError, match=r"dtype of variable 'enc/\*\*' must be one"):
        scope.variable_scope("enc", dtype="floot32")
    with pytest.raises(DtypeMismatchError, match=r"'step' is requested as int64.*jax_enable_x64"):
        js.Scope(tree).get_variable("step", dtype="int64")


def test_values_that_are_no_arrays_can_be_read_but_not_checked():
    scope = js.Scope({"n": 3, "pair": (1, 2), "none": None})
    assert scope.get_variable("n", (), "int32") == 3
    assert scope["pair"] == (1, 2)
    with pytest.raises(DtypeMismatchError, match="Variable 'pair' holds a tuple, not an array"):
        scope.get_variable("pair", (2,))
    with pytest.raises(DtypeMismatchError, match=r"'none' holds a NoneType, not an array\. Read"):
        scope.get_variable("none")


def test_a_scope_cannot_be_iterated(tree):
    with pytest.raises(TypeError, match="iterate over the tree"):
        list(js.Scope(tree))


def test_abstract_values_are_found_like_others(tree):
    shapes = jax.eval_shape(lambda: tree)
    found = js.Scope(shapes).get_variable("enc/layer_0/w", (2, 3), jnp.float32)
    assert found is shapes["enc/layer_0/w"]


# What JAX sees. The numbers are those of the rules at the top of `_scope`.


def test_rule_1_equal_blocks_are_one_structure_wherever_they_hang(tree):
    enc = js.Scope(tree) / "enc"
    first, second = enc / "layer_0", enc / "layer_1"
    assert structure(first) == structure(second)
    assert hash(structure(first)) == hash(structure(second))
    assert hash(first._context) == hash(second._context)
    assert structure(first) == structure(js.Scope({"w": 1, "b": 2}))
    assert structure(first) != structure(enc)
    assert structure(first) != structure(js.Scope({"w": 1, "c": 2}))
    assert structure(first) != structure(js.VarTree({"w": 1, "b": 2}))


def test_rule_1_behind_a_transform_the_name_is_relative_to_its_boundary(tree):
    seen = []

    @jax.jit
    def block(scope):
        seen.extend([scope.name, (scope / "deeper").name])
        return scope["w"]

    enc = js.Scope(tree) / "enc"
    for layer in ("layer_1", "layer_0"):
        np.testing.assert_array_equal(block(enc / layer), tree[f"enc/{layer}/w"])
    assert seen == ["", "deeper"]  # traced once


def test_rule_1_what_can_change_a_lookup_is_in_the_structure(tree):
    scope = js.Scope(tree)
    plain = structure(scope / "enc")
    assert structure(scope.variable_scope("enc")) == plain
    assert structure(scope.variable_scope("enc", initializer=lambda k, s, d: 1)) == plain
    assert structure(scope.variable_scope("enc", regularizer=lambda w: 1)) == plain
    assert structure(scope.variable_scope("enc", reuse=False)) == plain
    others = [
        scope.variable_scope("enc", reuse=True),
        scope.variable_scope("enc", reuse=AUTO_REUSE),
        scope.variable_scope("enc", dtype="float32"),
        scope.variable_scope("enc", dtype="bfloat16"),
    ]
    assert len({plain, *map(structure, others)}) == 5
    assert structure(scope.shared("enc")) == structure(others[1])


@pytest.mark.parametrize("fill", [object, lambda: None, lambda: jax.ShapeDtypeStruct((), "f4")])
def test_rule_5_unflattening_stores_whatever_it_is_given(tree, fill):
    scope = js.Scope(tree) / "enc"
    fillings = [fill() for _ in range(4)]
    filled = jax.tree.unflatten(structure(scope), fillings)
    assert [filled[name] for name in tree.subtree("enc")] == fillings
    assert (filled / "layer_1")["b"] is fillings[2]


def test_rule_5_jax_maps_and_transposes_scopes(tree):
    scope = js.Scope(tree)
    doubled = jax.tree.map(lambda x: x * 2, scope)
    np.testing.assert_array_equal(doubled["enc/layer_1/w"], 2 * tree["enc/layer_1/w"])
    nothing = jax.tree.map(lambda x: None, scope)
    assert jax.tree.leaves(nothing) == []
    assert jax.tree.structure(scope, is_leaf=lambda x: x is None).num_leaves == 5
    pairs = jax.tree.map(lambda x: (x, x + 1), scope)
    low, high = jax.tree.transpose(structure(scope), jax.tree.structure((0, 0)), pairs)
    assert low["step"] == 7
    assert high["step"] == 8
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a is b, low, scope)))


def test_rule_6_structures_are_interned_weakly(tree):
    names = {f"only_here/v{i}": jnp.zeros(()) for i in range(3)}
    scope = js.Scope(names).variable_scope("only_here", reuse=True, dtype="float32")
    fixed = weakref.ref(scope._context.fixed)
    jax.jit(lambda s: s["v0"])(scope)
    again = js.Scope(dict(names)).variable_scope("only_here", reuse=True, dtype="float32")
    assert again._context.fixed is scope._context.fixed
    del scope, again
    jax.clear_caches()
    gc.collect()
    assert fixed() is None


def test_rule_6_threads_get_the_same_object():
    names = {f"t{i}/w": i for i in range(200)}
    barrier, found = threading.Barrier(4), []

    def work():
        barrier.wait()
        root = js.Scope(names)
        found.append([root._context.fixed, *((root / f"t{i}")._context.fixed for i in range(200))])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(a is b for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_guesses_at_scopes_are_not_kept(tree):
    scope = js.Scope(tree)
    before = len(scope._context.fixed._children)
    for i in range(100):
        assert not (scope / f"guess_{i}").has("w")
    assert len(scope._context.fixed._children) == before


def test_jax_speaks_of_variables_by_name(tree):
    scope = js.Scope(tree) / "enc/layer_0"
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(scope)]
    assert paths == ["['b']", "['w']"]
    with pytest.raises(ValueError, match=re.escape("s['w']")):
        jax.vmap(lambda s: s["w"])(jax.tree.map(lambda x: x, scope))  # sizes 3 and 2


def test_a_scope_is_true_and_has_no_attributes_of_the_user_s(tree):
    assert js.Scope({})
    with pytest.raises(AttributeError):
        js.Scope(tree).anything = 3


# Exported functions.


def exportable(scope, x):
    w = scope.get_variable("w", (3, 2))
    return x @ w.astype(x.dtype) + jax.random.normal(scope.rng("noise"), (2, 2)), scope / "inner"


EXPORTED = {
    "layer/w": jnp.arange(6, dtype=jnp.bfloat16).reshape(3, 2),
    "layer/inner/b": jnp.ones(2),
    "step": jnp.int32(1),
}


def exported_scope():
    root = js.Scope(EXPORTED, rngs={"noise": jax.random.key(3)})
    return root.variable_scope("layer", dtype=jnp.bfloat16, reuse=js.AUTO_REUSE)


def test_a_function_of_a_scope_can_be_exported_and_run_in_another_process(tmp_path):
    pytest.importorskip("flatbuffers", reason="jax.export needs it to serialize")
    x = jnp.ones((2, 3))
    exported = jax.export.export(jax.jit(exportable))(exported_scope(), x)
    here, inner = jax.export.deserialize(exported.serialize()).call(exported_scope(), x)
    expected, expected_inner = exportable(exported_scope(), x)
    np.testing.assert_allclose(here, expected, rtol=1e-6)
    assert jax.tree.structure(inner) == jax.tree.structure(expected_inner)
    np.testing.assert_array_equal(inner["b"], np.ones(2))
    (tmp_path / "function").write_bytes(exported.serialize())
    code = (
        "import pathlib, sys\n"
        "import jax, jax.export, jax.numpy as jnp, jscope as js\n"
        "js.Scope\n"
        "f = jax.export.deserialize(bytearray(pathlib.Path(sys.argv[1]).read_bytes()))\n"
        "w = jnp.arange(6, dtype=jnp.bfloat16).reshape(3, 2)\n"
        "tree = {'layer/w': w, 'layer/inner/b': jnp.ones(2)}\n"
        "root = js.Scope(tree, rngs={'noise': jax.random.key(3)})\n"
        "scope = root.variable_scope('layer', dtype=jnp.bfloat16, reuse=js.AUTO_REUSE)\n"
        "y, inner = f.call(scope, jnp.ones((2, 3)))\n"
        "print(y.tolist(), inner['b'].tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "function"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{here.tolist()} [1.0, 1.0]"


def test_an_exported_function_takes_only_scopes_like_the_one_it_was_exported_with():
    pytest.importorskip("flatbuffers", reason="jax.export needs it to serialize")

    def read(scope):
        return scope.get_variable("w", (2,))

    scope = js.Scope({"w": jnp.ones(2)})
    function = jax.export.deserialize(jax.export.export(jax.jit(read))(scope).serialize())
    for other in (
        js.Scope({"v": jnp.ones(2)}),
        js.Scope({"w": jnp.ones(2)}, rngs=jax.random.key(0)),
        scope.variable_scope(scope, reuse=True),
    ):
        with pytest.raises(ValueError, match="structure"):
            function.call(other)
    # Where it hangs is no part of it.
    np.testing.assert_array_equal(function.call(js.Scope({"a/w": jnp.zeros(2)}) / "a"), np.zeros(2))


def test_a_scope_that_holds_functions_is_not_exported_and_says_what_to_write():
    pytest.importorskip("flatbuffers", reason="jax.export needs it to serialize")

    def model(scope, x):
        return x * scope.get_variable("w", (2,))

    tree, x = js.VarTree({"w": jnp.ones(2)}), jnp.ones(2)
    scope = js.Scope(tree)
    scope = scope.variable_scope(scope, custom_getter=lambda getter, *a, **kw: 2 * getter(*a, **kw))
    exported = jax.export.export(jax.jit(model))(scope, x)
    line = "jax.export.export(jax.jit(lambda tree, x: model(js.Scope(tree), x)))(tree, x)"
    with pytest.raises(js.ScopeError, match="with custom getters, which are functions") as caught:
        exported.serialize()
    assert line in str(caught.value)
    offered = eval(line, {"jax": jax, "js": js, "model": model, "tree": tree, "x": x})
    np.testing.assert_array_equal(offered.call(tree, x), np.ones(2))
