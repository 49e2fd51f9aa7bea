import copy
import gc
import json
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jscope as js
from jscope._errors import (
    JscopeError,
    MissingVariableError,
    NameCollisionError,
    NestingError,
    VariableNameError,
)
from jscope._tree import vartree as _tree

components = st.text("ab0-._Z", min_size=1, max_size=3).filter(lambda c: c not in (".", ".."))
names = st.lists(components, min_size=1, max_size=4).map("/".join)
flat_dicts = st.dictionaries(names, st.integers(), max_size=12)


@pytest.fixture
def tree():
    return js.VarTree(
        {"enc": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(3)}, "step": 7}
    )


@pytest.fixture
def arrays():
    """Only arrays, with a name that is at once a variable and a scope."""
    return js.VarTree(
        {"enc/w": jnp.ones((2, 3)), "enc/w/Adam": jnp.full((2, 3), 2.0), "b": jnp.float32(3.0)}
    )


def run(code, *arguments):
    """Run Python code in a new process that imports nothing by itself; its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# A mapping, sorted by name.


@given(flat_dicts)
def test_a_tree_is_the_sorted_mapping_it_was_made_of(flat):
    tree = js.VarTree(flat)
    assert list(tree) == sorted(flat)
    assert list(tree.items()) == sorted(flat.items())
    assert len(tree) == len(flat)
    assert isinstance(tree, Mapping)
    for name in flat:
        assert name in tree
        assert tree[name] == tree.get(name) == flat[name]


@given(flat_dicts)
def test_nested_and_flat_mappings_give_one_tree(flat):
    tree = js.VarTree(flat)
    try:
        nested = tree.to_nested()
    except NestingError:
        assert any(other.startswith(name + "/") for name in flat for other in flat)
    else:
        assert js.VarTree(nested) == tree
        assert not any(other.startswith(name + "/") for name in flat for other in flat)


@given(flat_dicts, components)
def test_subtree_is_the_names_with_the_prefix_cut(flat, scope):
    tree = js.VarTree(flat)
    below = {n[len(scope) + 1 :]: v for n, v in flat.items() if n.startswith(scope + "/")}
    if below:
        assert dict(tree.subtree(scope)) == below
        assert tree.subtree(scope) == js.VarTree(below)
    else:
        with pytest.raises(MissingVariableError):
            tree.subtree(scope)
    assert tree.subtree("") is tree


@given(flat_dicts, flat_dicts)
def test_or_is_the_union_of_dicts(one, other):
    expected = js.VarTree({**one, **other})
    assert js.VarTree(one) | js.VarTree(other) == expected
    assert js.VarTree(one) | other == expected
    assert one | js.VarTree(other) == expected


def test_or_takes_mappings_only(tree):
    with pytest.raises(TypeError, match="unsupported operand"):
        tree | [1]
    with pytest.raises(TypeError, match="unsupported operand"):
        [1] | tree


def test_an_empty_tree_is_a_tree():
    for tree in (js.VarTree(), js.VarTree({}), js.VarTree({"a": {}}), js.VarTree(js.VarTree())):
        assert len(tree) == tree.size == tree.nbytes == 0
        assert tree.to_nested() == {}
        assert repr(tree) == "VarTree of no variables"
        assert jax.tree.leaves(tree) == []
        assert pickle.loads(pickle.dumps(tree)) == tree


def test_get_and_contains_never_raise_for_strings(tree):
    assert tree.get("enc/x") is None
    assert tree.get("enc/x", 3) == 3
    assert "enc" not in tree
    assert 3 not in tree
    assert ["enc"] not in tree


def test_what_is_no_mapping_is_refused():
    with pytest.raises(TypeError, match="VarTree needs a mapping, got list"):
        js.VarTree([1])
    with pytest.raises(TypeError, match=r"A VarTree or another mapping is needed, got list\."):
        js.select([1], "**")


# Names: which are legal, which collide, which are missing.


def test_a_name_may_be_a_variable_and_a_scope(arrays):
    assert list(arrays.subtree("enc")) == ["w", "w/Adam"]
    assert list(arrays.subtree("enc/w")) == ["Adam"]
    with pytest.raises(NestingError) as caught:
        arrays.to_nested()
    assert str(caught.value) == (
        "This tree can't be nested: 'enc/w' would be a value and a dict at once ('enc/w' and "
        "'enc/w/Adam' are both variables). Keep it flat with dict(tree), or rename what is below, "
        "as in js.rename(tree, {'enc/w/Adam': 'enc/w_Adam'})."
    )
    assert list(js.rename(arrays, {"enc/w/Adam": "enc/w_Adam"}).to_nested()["enc"]) == [
        "w",
        "w_Adam",
    ]


@pytest.mark.parametrize("bad", ["", "/a", "a//b", "a b", "..", 3, None])
def test_illegal_names_are_refused_at_any_depth(bad):
    for variables in ({bad: 1}, {"enc": {bad: 1}}):
        with pytest.raises(VariableNameError):
            js.VarTree(variables)


def test_one_name_twice_is_refused():
    with pytest.raises(NameCollisionError, match="Two variables would get the name 'a/b'"):
        js.VarTree({"a/b": 1, "a": {"b": 2}})


def test_leaves_of_values_that_are_pytrees_must_not_collide():
    fine = js.VarTree({"w": [1.0, 2.0], "w/2": 3.0, "none": None})
    assert jax.tree.leaves(fine) == [1.0, 2.0, 3.0]
    with pytest.raises(NameCollisionError, match="Two leaves would get one name: 'w/1'"):
        js.VarTree({"w": [1.0, 2.0], "w/1": 3.0})
    with pytest.raises(NameCollisionError, match="'w/1'"):
        fine | {"w/1": 3.0}


def test_values_that_are_dicts_stay_values_once_jax_put_them_there(arrays):
    moments = jax.tree.map(lambda x: {"m": x, "v": x}, arrays)
    for made in (moments | {}, {} | moments, js.VarTree(moments), js.select(moments, "**")):
        assert made == moments
        assert list(made) == list(arrays)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("enc/ww", "No variable at 'enc/ww' (close names: 'enc/w', 'enc/b')."),
        ("qqq", "No variable at 'qqq' (no close name among 3: 'enc/b', 'enc/w', 'step')."),
        ("enc", "No variable at 'enc': it is a scope of 2 variables ('enc/b', 'enc/w')."),
        ("w", "No variable at 'w', but 'enc/w' further down."),
        ("", "No variable at ''"),
        (3, "Variables are found by name, got 3."),
        (["enc"], "Variables are found by name, got ['enc']."),
    ],
)
def test_a_missing_variable_is_told_what_is_near(tree, name, message):
    with pytest.raises(MissingVariableError) as caught:
        tree[name]
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ("en", "'en' is not a scope of this tree (close names: 'enc')."),
        ("enc/w", "'enc/w' is a variable, not a scope of this tree (close names: 'enc')."),
    ],
)
def test_a_missing_scope_is_told_what_is_near(tree, scope, message):
    with pytest.raises(MissingVariableError) as caught:
        tree.subtree(scope)
    assert str(caught.value) == message


def test_scopes_at_every_depth_are_near():
    tree = js.VarTree({"encoder/layer/w": 1})
    with pytest.raises(MissingVariableError, match=r"close names: 'encoder'"):
        tree.subtree("encodr")
    with pytest.raises(MissingVariableError, match="there are no scopes at all"):
        js.VarTree({"w": 1}).subtree("enc")


def test_a_guess_leaves_no_trace_in_a_structure(tree):
    structure = _tree.structure_of(tree)
    before = len(structure._slices)
    for i in range(10):
        with pytest.raises(MissingVariableError):
            tree.subtree(f"guess_{i}")
    assert len(structure._slices) == before


# Immutable.


def test_a_tree_can_not_be_changed_and_says_what_to_write(tree):
    before = dict(tree)
    attempts = [
        lambda: setattr(tree, "_values", ()),
        lambda: setattr(tree, "w", 1),
        lambda: delattr(tree, "_values"),
        lambda: tree.__setitem__("step", 8),
        lambda: tree.__delitem__("step"),
    ]
    for attempt in attempts:
        with pytest.raises((AttributeError, TypeError), match=r"can't be changed.*Write tree = "):
            attempt()
    assert dict(tree) == before
    with pytest.raises(TypeError, match="unhashable"):
        hash(tree)


def test_a_dict_given_is_not_kept(tree):
    given_dict = {"w": 1}
    made = js.VarTree(given_dict)
    given_dict["w"] = 2
    assert made["w"] == 1


def test_a_tree_where_a_scope_belongs_is_told_so(tree):
    for name in ("get_variable", "variable_scope", "shared", "has"):
        with pytest.raises(AttributeError, match=r"Write js\.Scope\(tree\)"):
            getattr(tree, name)
    with pytest.raises(TypeError, match=r"js\.Scope\(tree\) / 'enc'.*tree\.subtree\('enc'\)"):
        tree / "enc"
    with pytest.raises(AttributeError, match="'VarTree' object has no attribute 'shape'"):
        _ = tree.shape


# Equality.


class Pair(NamedTuple):
    left: object
    right: object


KEY = jax.random.key(0)
SAME = [
    (np.float32(1), jnp.float32(1)),
    (np.ones(3, np.float32), jnp.ones(3)),
    (np.array([np.nan, -0.0]), np.array([np.nan, -0.0])),
    (float("nan"), float("nan")),
    (np.array(["x" * 50, "y"], object), np.array(["x" * 50, "".join("y")], object)),
    (np.array([b"ab", b"c"]), np.array([b"ab", b"c"])),
    (jax.ShapeDtypeStruct((2,), np.float32), jax.ShapeDtypeStruct((2,), np.float32)),
    (KEY, jax.random.key(0)),
    (None, None),
    ("label", "label"),
    ([1, None], [1, None]),
    (jnp.zeros((0, 2)), np.zeros((0, 2), np.float32)),
]
DIFFERENT = [
    (np.float32(1), np.float64(1)),
    (np.float32(0), np.float32(-0.0)),
    (0.0, -0.0),
    (1, 1.0),
    (True, 1),
    (np.ones(3), np.ones((1, 3))),
    (jnp.zeros((0, 2)), jnp.zeros((2, 0))),
    (np.ones(3, np.float32), 1.0),
    (jax.ShapeDtypeStruct((2,), np.float32), np.zeros(2, np.float32)),
    (jax.ShapeDtypeStruct((2,), np.float32), jax.ShapeDtypeStruct((3,), np.float32)),
    (KEY, jax.random.key(1)),
    (KEY, jax.random.key_data(KEY)),
    (KEY, jax.random.key(0, impl="rbg")),
    (None, 0),
    ("label", "other"),
    ([1, 2], (1, 2)),
    ([1], [1, 2]),
    (np.array(["x"], object), np.array(["y"], object)),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_means_the_same_bits(one, other):
    assert js.VarTree({"a": one}) == js.VarTree({"a": other})
    assert js.VarTree({"a": other}) == js.VarTree({"a": one})


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_bits_are_not_equal(one, other):
    assert js.VarTree({"a": one}) != js.VarTree({"a": other})
    assert js.VarTree({"a": other}) != js.VarTree({"a": one})


def test_other_names_and_other_types_are_not_equal(tree):
    assert tree != js.rename(tree, {"step": "steps"})
    assert tree != js.drop(tree, "step")
    assert js.VarTree({"a": 1}) != {"a": 1}
    assert tree != 3


def test_traced_values_can_not_be_compared(arrays):
    with pytest.raises(jax.errors.TracerArrayConversionError):
        jax.jit(lambda t: t == arrays)(arrays)


# Printing, sizes.


def test_a_tree_prints_as_a_table(tree):
    tree = tree | {"names": ["a", "b"], "key": KEY, "spec": jax.ShapeDtypeStruct((4,), jnp.int32)}
    tree = tree | {"long": "x" * 50}
    assert repr(tree).split("\n") == [
        "VarTree of 7 variables, 14 elements, 72 B",
        "name   shape                                     dtype     bytes",
        "enc/b  (3,)                                      float64    24 B",
        "enc/w  (2, 3)                                    float32    24 B",
        "key    ()                                        key<fry>    8 B",
        "long   'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...  str",
        "names  2 leaves                                  list        0 B",
        "spec   (4,)                                      int32      16 B",
        "step   7                                         int",
    ]


def test_a_large_tree_prints_short():
    text = repr(
        js.VarTree({f"layer_{i:04}/w": np.zeros((8, 8), np.float32) for i in range(10_000)})
    )
    lines = text.split("\n")
    assert len(lines) < 50
    assert len(text) < 4000
    assert lines[0] == "VarTree of 10,000 variables, 640,000 elements, 2.4 MiB"
    assert "... 9,960 more ..." in lines


def test_sizes_are_of_one_unsharded_copy():
    tree = js.VarTree(
        {
            "a": np.zeros((2, 3), np.int8),
            "b": jax.ShapeDtypeStruct((4, 5), jnp.bfloat16),
            "c": [np.float64(1), "text"],
            "d": None,
        }
    )
    assert tree.size == 6 + 20 + 1
    assert tree.nbytes == 6 + 40 + 8


def test_tracers_and_symbolic_shapes_print():
    (length,) = jax.export.symbolic_shape("n")
    tree = js.VarTree({"a": jax.ShapeDtypeStruct((length, 3), jnp.float32), "b": np.zeros(2)})
    assert (tree.size, tree.nbytes) == (2, 16)
    assert "(n, 3)" in repr(tree)
    texts = []
    jax.jit(lambda t: texts.append(repr(t)))(js.VarTree({"a": jnp.zeros((2, 3))}))
    assert "a     (2, 3)  float32   24 B" in texts[0]


# Pickles and copies.


def test_a_pickle_opens_in_a_process_that_imported_nothing(tmp_path, arrays):
    path = tmp_path / "tree.pickle"
    tree = arrays | {"spec": jax.ShapeDtypeStruct((2,), jnp.float32)}
    path.write_bytes(pickle.dumps(tree))
    code = (
        "import pathlib, pickle, sys\n"
        "tree = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "import jscope\n"
        "print(type(tree) is jscope.VarTree, list(tree), tree['enc/w'].tolist())"
    )
    assert run(code, path).strip() == (
        "True ['b', 'enc/w', 'enc/w/Adam', 'spec'] [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]"
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_keeps_names_values_and_structure(protocol, arrays):
    again = pickle.loads(pickle.dumps(arrays, protocol))
    assert again == arrays
    assert _tree.structure_of(again) is _tree.structure_of(arrays)
    assert jax.tree.structure(again) == jax.tree.structure(arrays)


def test_a_deep_copy_shares_the_structure_and_no_array(tree):
    shallow, deep = copy.copy(tree), copy.deepcopy(tree)
    assert shallow == deep == tree
    assert shallow["enc/w"] is tree["enc/w"]
    assert not np.shares_memory(deep["enc/w"], tree["enc/w"])
    assert _tree.structure_of(deep) is _tree.structure_of(tree)
    assert copy.copy(_tree.structure_of(tree)) is _tree.structure_of(tree)


def test_a_structure_pickles_within_a_treedef(arrays):
    treedef = jax.tree.structure((arrays, 1))
    assert pickle.loads(pickle.dumps(treedef)) == treedef
    assert "Structure('b', 'enc/w', 'enc/w/Adam')" in repr(treedef)


# Structures: interned, weakly, from all threads.


@given(flat_dicts)
def test_equal_names_share_one_structure(flat):
    one, other = js.VarTree(flat), js.VarTree(dict(reversed(flat.items())))
    assert _tree.structure_of(one) is _tree.structure_of(other)
    assert jax.tree.structure(one) == jax.tree.structure(other)


def test_structures_vanish_with_their_trees_and_jaxs_caches():
    def models(number):
        for i in range(number):
            tree = js.VarTree({f"vanish_{i}/enc/{n}": jnp.float32(n) for n in range(3)})
            tree.subtree(f"vanish_{i}/enc")
            jax.jit(lambda t: jax.tree.map(jnp.sin, t))(tree)
            yield weakref.ref(_tree.structure_of(tree))

    references = list(models(5))
    jax.clear_caches()
    gc.collect()
    assert [reference() for reference in references] == [None] * 5
    assert not any(name.startswith("vanish_") for names in _tree._structures for name in names)


def test_structures_vanish_without_clearing_caches_where_no_jit_saw_them():
    tree = js.VarTree({"vanish/a": 1, "vanish/b": 2})
    jax.tree.map(lambda x: x + 1, tree)
    reference = weakref.ref(_tree.structure_of(tree))
    del tree
    gc.collect()
    assert reference() is None


def test_many_threads_get_one_structure():
    start, found = threading.Barrier(8), []

    def work():
        start.wait()
        for i in range(200):
            tree = js.VarTree({f"thread_{i}/w": 1.0, f"thread_{i}/b": 2.0})
            doubled = jax.tree.map(lambda x: 2 * x, tree.subtree(f"thread_{i}"))
            found.append((i, tree, doubled))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 * 200
    structures = {}
    for i, tree, doubled in found:
        assert _tree.structure_of(tree) is structures.setdefault(i, _tree.structure_of(tree))
        assert dict(doubled) == {"w": 2.0, "b": 4.0}


def test_a_finalizer_may_make_trees_while_the_lock_is_held():
    with _tree._structures_lock:
        assert list(js.VarTree({"made/in/a/finalizer": 1})) == ["made/in/a/finalizer"]


# A pytree.


def test_flattening_gives_the_tuple_that_is_kept(arrays):
    values, structure = jax._src.tree_util.default_registry.flatten_one_level(arrays)
    assert values is _tree.values_of(arrays)
    assert structure is _tree.structure_of(arrays)


def test_unflattening_stores_what_it_is_given(arrays):
    treedef = jax.tree.structure(arrays)
    for leaf in (None, object(), PartitionSpec("x"), [1], ...):
        tree = jax.tree.unflatten(treedef, [leaf] * 3)
        assert all(value is leaf for value in tree.values())
        assert repr(tree)
    assert _tree.from_values(_tree.structure_of(arrays), iter("abc"))["enc/w"] == "b"


def test_trees_nest_and_transpose_as_pytrees_do(arrays):
    pairs = jax.tree.map(lambda x: (x, 2 * x), arrays)
    outer, inner = jax.tree.structure(arrays), jax.tree.structure((0, 0))
    once, twice = jax.tree.transpose(outer, inner, pairs)
    assert once == arrays
    assert twice == jax.tree.map(lambda x: 2 * x, arrays)
    assert jax.tree.transpose(inner, outer, (once, twice)) == pairs
    assert jax.tree.structure({"x": arrays}).num_leaves == 3


def test_key_paths_are_names(arrays):
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path((arrays,))[0]]
    assert [jax.tree_util.keystr(p) for p in paths] == [
        "[0]['b']",
        "[0]['enc/w']",
        "[0]['enc/w/Adam']",
    ]
    assert _tree.leaf_name(paths[1][1:]) == "enc/w"


def test_jaxs_errors_speak_of_variables(arrays):
    with pytest.raises(ValueError, match=r"symmetric difference on key sets is\n\W*enc/w/Adam"):
        jax.tree.map(lambda a, b: a, arrays, js.drop(arrays, "enc/w/Adam"))
    with pytest.raises(TypeError, match=r"at path t\['enc/w'\]"):
        jax.jit(lambda t: t)(arrays | {"enc/w": "text"})
    with pytest.raises(TypeError, match=r"at path \['b'\]"):
        jax.lax.cond(True, lambda t: t, lambda t: t | {"b": jnp.ones(2)}, arrays)


def test_one_trace_for_all_trees_of_the_same_names():
    traces = []

    @jax.jit
    def double(tree):
        traces.append(tree)  # kept on purpose
        return jax.tree.map(lambda x: 2 * x, tree)

    for scale in range(3):
        values = {"b": jnp.float32(scale), "a/w": jnp.full(2, scale, jnp.float32)}
        tree = js.VarTree(dict(reversed(values.items()))) if scale else js.VarTree(values)
        np.testing.assert_array_equal(double(tree)["a/w"], np.full(2, 2 * scale))
        double(pickle.loads(pickle.dumps(tree)))
    double(js.VarTree({"x": js.VarTree(values)}).subtree("x"))
    assert len(traces) == 1


def loss(tree):
    return jnp.sum(jnp.sin(tree["enc/w"]) * tree["enc/w/Adam"]) + tree["b"] ** 2


def test_grad_jit_and_eager_agree_and_leak_nothing(arrays):
    with jax.checking_leaks():
        value, gradient = jax.jit(jax.value_and_grad(loss))(arrays)
    np.testing.assert_allclose(value, 6 * np.sin(1) * 2 + 9, rtol=1e-6)
    assert list(gradient) == list(arrays)
    np.testing.assert_allclose(gradient["enc/w"], np.full((2, 3), 2 * np.cos(1)), rtol=1e-6)
    np.testing.assert_allclose(gradient["b"], 6.0)


def test_vmap_takes_full_trees_of_axes(arrays):
    batch = arrays | {"enc/w": jnp.stack([arrays["enc/w"], 3 * arrays["enc/w"]], axis=1)}
    axes = js.map_named(arrays, lambda name, value: 1 if name == "enc/w" else None)
    with jax.checking_leaks():
        found = jax.vmap(loss, in_axes=(axes,))(batch)
    np.testing.assert_allclose(found, 12 * np.sin([1, 3]) + 9, rtol=1e-6)
    out = jax.vmap(lambda t, x: t | {"b": x}, (None, 0), js.map_named(axes, lambda n, v: 0))(
        arrays, jnp.arange(2.0)
    )
    assert out["enc/w"].shape == (2, 2, 3)


def test_jit_takes_full_trees_of_shardings(arrays):
    mesh = Mesh(np.array(jax.devices()[:1]), "x")
    shardings = js.map_named(
        arrays,
        lambda name, v: NamedSharding(mesh, PartitionSpec("x") if v.ndim else PartitionSpec()),
    )
    placed = jax.device_put(arrays, shardings)
    out = jax.jit(lambda t: t, in_shardings=(shardings,), out_shardings=shardings)(placed)
    assert out == arrays
    assert jax.tree.map(lambda x: x.sharding, out) == shardings


def test_donation_frees_what_was_given(arrays):
    donated = jax.tree.map(jnp.copy, arrays)
    out = jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)(donated)
    assert all(value.is_deleted() for value in donated.values())
    np.testing.assert_array_equal(out["b"], 4.0)


def test_loops_and_remat_carry_trees(arrays):
    def step(tree, x):
        return jax.tree.map(lambda v: v + x, tree), tree["b"]

    with jax.checking_leaks():
        last, before = jax.lax.scan(jax.checkpoint(step), arrays, jnp.arange(3.0))
        looped = jax.lax.fori_loop(0, 3, lambda i, t: jax.tree.map(lambda v: v + 1, t), arrays)
    np.testing.assert_array_equal(before, [3.0, 3.0, 4.0])
    assert last == looped


def test_abstract_values_keys_and_numpy_are_values():
    tree = js.VarTree({"key": KEY, "numpy": np.ones(2, np.float32), "jax": jnp.ones(2)})
    abstract = jax.eval_shape(lambda t: t, tree)
    assert abstract["key"].dtype == KEY.dtype
    assert abstract["numpy"] == jax.ShapeDtypeStruct((2,), jnp.float32)
    assert jax.jit(lambda t: t)(tree) == tree


# Exported functions.


def test_an_exported_function_runs_in_another_process(tmp_path, arrays):
    pytest.importorskip("flatbuffers", reason="jax.export needs it to serialize")
    path = tmp_path / "function"
    empty = js.VarTree()
    exported = jax.export.export(jax.jit(lambda t, none: (jax.tree.map(lambda x: 2 * x, t), none)))
    path.write_bytes(exported(arrays, empty).serialize())
    code = (
        "import json, pathlib, sys\n"
        "import jax, jax.export, numpy as np\n"
        "import jscope as js\n"
        "data = bytearray(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "try:\n"
        "    jax.export.deserialize(data)\n"
        "except ValueError as error:\n"
        "    assert 'unregistered type `jscope.VarTree`' in str(error)\n"
        "else:\n"
        "    raise SystemExit('VarTree says that one must use it first; correct its docstring')\n"
        "js.VarTree\n"
        "f = jax.export.deserialize(data)\n"
        "ones = np.ones((2, 3), np.float32)\n"
        "tree = js.VarTree({'enc/w': ones, 'enc/w/Adam': ones, 'b': np.float32(3)})\n"
        "out, empty = f.call(tree, js.VarTree())\n"
        "assert type(out) is type(empty) is js.VarTree\n"
        "print(json.dumps({name: np.asarray(v).tolist() for name, v in out.items()}))"
    )
    twos = [[2.0] * 3] * 2
    assert json.loads(run(code, path)) == {"b": 6.0, "enc/w": twos, "enc/w/Adam": twos}


def test_a_serialized_structure_is_checked_when_read():
    structure = _tree.structure_of(js.VarTree({"a/w": 1, "b": 2}))
    data = _tree._serialize_structure(structure)
    assert data == b"a/w\nb"
    assert _tree._deserialize_structure(data) is structure
    assert _tree._deserialize_structure(b"").names == ()
    with pytest.raises(JscopeError):
        _tree._deserialize_structure(b"a//w\nb")
