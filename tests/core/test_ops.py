"""The pure operations against NumPy, in every transform, and the text of their errors."""

import operator
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keys_by_definition import key_by_definition

import jscope as js
from jscope import _errors
from jscope import initializers as init
from jscope._random.keys import fold_words, name_words
from jscope._variables import initial_value as _initial
from jscope._variables import request as _request

KEY = jax.random.key(7)


def tree_of(value, name="v", dtype=jnp.float32):
    """A tree of that variable and a bystander, which no operation may touch."""
    return js.VarTree({name: jnp.asarray(value, dtype), "z": jnp.ones((2, 3))})


def normal(key, shape, dtype):
    return jax.random.normal(key, shape, dtype)


def fails(kind, *parts):
    """The block raises just this class; its text has the parts and survives pickling."""
    return _Fails(kind, parts)


class _Fails:
    def __init__(self, kind, parts):
        self.kind, self.parts = kind, parts

    def __enter__(self):
        self.catch = pytest.raises(self.kind)
        self.info = self.catch.__enter__()

    def __exit__(self, *raised):
        caught = self.catch.__exit__(*raised)
        error = self.info.value
        assert type(error) is self.kind
        for part in self.parts:
            assert part in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (self.kind, str(error))
        return caught


# 1. get_variable: reading.


def test_get_variable_reads_and_gives_the_very_tree_back():
    tree = tree_of([1.0, 2.0], "a/w")
    for arguments in [{}, {"key": KEY}, {"shape": 2}, {"shape": (2,), "dtype": "float32"}]:
        value, same = js.get_variable(tree, "a/w", **arguments)
        assert value is tree["a/w"]
        assert same is tree


def test_get_variable_takes_any_mapping_and_nested_ones():
    value, tree = js.get_variable({"a": {"w": np.float32(3)}}, "a/w")
    assert value == 3
    assert isinstance(tree, js.VarTree)


def test_an_existing_variable_ignores_the_initializer_as_in_tf():
    value, _ = js.get_variable(tree_of([1.0]), "v", 1, initializer=init.zeros, key=KEY)
    assert value == 1


def test_none_in_a_shape_fits_any_dimension_as_in_tf():
    tree = tree_of(np.zeros((3, 4)))
    assert js.get_variable(tree, "v", (None, 4))[1] is tree
    for shape in [(None, 5), (None,), (None, 4, 1)]:
        with fails(js.ShapeMismatchError, f"specified shape {shape} and found shape (3, 4)"):
            js.get_variable(tree, "v", shape)


def test_a_shape_mismatch_speaks_as_tf_does():
    with fails(
        js.ShapeMismatchError,
        "Trying to share variable a/w, but specified shape (2,) and found shape (3,).",
        "another name",
    ):
        js.get_variable(tree_of(np.zeros(3), "a/w"), "a/w", (2,))


def test_a_dtype_is_checked_only_where_it_is_said():
    tree = tree_of([1, 2], "a/w", jnp.int32)
    assert js.get_variable(tree, "a/w", 2)[1] is tree
    assert js.get_variable(tree_of([1.0]), "v", dtype=float)[0] == 1
    with fails(
        js.DtypeMismatchError,
        "Trying to share variable a/w, but specified dtype float32 and found dtype int32.",
        "Request what it has and convert what you read",
    ):
        js.get_variable(tree, "a/w", dtype=jnp.float32)


def test_abstract_variables_and_keys_are_read_too():
    tree = js.VarTree({"w": jax.ShapeDtypeStruct((2,), jnp.float32), "k": KEY})
    assert js.get_variable(tree, "w", (2,), "float32")[0] is tree["w"]
    assert js.get_variable(tree, "k", (), KEY.dtype)[0] is KEY


def test_python_numbers_have_shape_and_dtype_and_other_objects_have_none():
    tree = js.VarTree({"n": 3, "s": [jnp.ones(1), jnp.ones(2)]})
    assert js.get_variable(tree, "n", (), jnp.int32)[0] == 3
    with fails(js.DtypeMismatchError, "Variable 's' holds a list, not an array"):
        js.get_variable(tree, "s")


def test_a_relative_name_can_be_read_but_not_created_at_the_root():
    tree = js.VarTree({"_w": jnp.ones(1)})
    assert js.get_variable(tree, "_w")[0] == 1
    with fails(js.VariableNameError, "not a legal name at the root"):
        js.get_variable(tree, "_v", 1, key=KEY)
    with fails(js.VariableNameError, "trailing '/'"):
        js.get_variable(tree, "w/", 1, key=KEY)


def test_a_missing_variable_without_a_key_names_neighbours_and_the_key():
    with fails(
        js.MissingVariableError,
        "No variable at 'enc/kernal' (close names: 'enc/kernel')",
        "To create it, give key=jax.random.key(...).",
    ):
        js.get_variable(tree_of([1.0], "enc/kernel"), "enc/kernal", (1,))


def test_a_key_that_is_none_is_an_error():
    with fails(js.KeyArgumentError, "Write jax.random.key(3)"):
        js.get_variable({}, "w", (1,), key=3)


# 2. get_variable: creating.


def expected_normal(name, shape, key=KEY, dtype=jnp.float32):
    folded = key_by_definition(key, *name.split("/"))
    return np.asarray(jax.jit(lambda k: jax.random.normal(k, shape, dtype))(folded))


def test_a_new_variable_follows_from_key_and_name_alone():
    old = tree_of([1.0])
    value, tree = js.get_variable(old, "a/w", (3, 2), initializer=normal, key=KEY)
    np.testing.assert_array_equal(value, expected_normal("a/w", (3, 2)))
    assert tree["a/w"] is value
    assert list(old) == ["v", "z"]
    _, tree = js.get_variable({}, "b", (1,), key=KEY)
    again, _ = js.get_variable(tree, "a/w", (3, 2), initializer=normal, key=KEY)
    np.testing.assert_array_equal(again, value)
    other, _ = js.get_variable(tree, "a/v", (3, 2), initializer=normal, key=KEY)
    assert not np.array_equal(other, value)


@pytest.mark.parametrize("key", [jax.random.PRNGKey(3), jax.random.key(3, impl="rbg")])
def test_old_style_and_other_keys_work(key):
    value, _ = js.get_variable({}, "w", 4, initializer=normal, key=key)
    np.testing.assert_array_equal(value, expected_normal("w", (4,), key))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_bits_are_those_of_jit_also_where_a_consumer_could_fuse(dtype):
    def model(key):
        value, _ = js.get_variable({}, "w", (16, 16), dtype, init.glorot_normal(), key=key)
        return value, jnp.tanh(value) * 3

    eager, consumed = model(KEY)
    with jax.checking_leaks():
        jitted, jitted_consumed = jax.jit(model)(KEY)
    np.testing.assert_array_equal(eager, jitted)
    np.testing.assert_array_equal(jax.jit(lambda x: jnp.tanh(x) * 3)(eager), jitted_consumed)
    assert consumed.dtype == dtype


def test_vmap_over_keys_gives_an_ensemble():
    keys = jax.random.split(KEY, 3)
    values = jax.vmap(lambda k: js.get_variable({}, "w", 2, initializer=normal, key=k)[0])(keys)
    for value, key in zip(values, keys, strict=True):
        np.testing.assert_array_equal(value, expected_normal("w", (2,), key))


def test_a_new_variable_under_eval_shape_is_abstract():
    tree = jax.eval_shape(lambda k: js.get_variable({}, "w", (2, 3), key=k)[1], KEY)
    assert tree["w"].shape == (2, 3)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_integers_and_bools_start_at_zero(dtype):
    value, _ = js.get_variable({}, "w", (2,), dtype, key=KEY)
    np.testing.assert_array_equal(value, np.zeros(2, dtype))
    assert value.dtype == dtype


def test_floats_start_at_glorot_uniform():
    value, _ = js.get_variable({}, "w", (30, 20), key=KEY)
    asked, _ = js.get_variable({}, "w", (30, 20), initializer=init.glorot_uniform(), key=KEY)
    np.testing.assert_array_equal(value, asked)
    assert value.dtype == jnp.float32
    assert np.abs(value).max() <= np.sqrt(6 / 50)


def test_complex_numbers_have_no_default():
    with fails(
        js.InitializerError, "An initializer for variable a/w of complex64 is required", "init."
    ):
        js.get_variable({}, "a/w", (2,), "complex64", key=KEY)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (3, "int32"),
        (2.5, "float32"),
        (True, "bool"),
        (1j, "complex64"),
        ([1, 2], "int32"),
        (np.array([1.0, 2.0]), "float32"),
        (np.array([1, 2]), "int32"),
        (jnp.array([1, 2], jnp.int8), "int8"),
        (np.float32(2), "float32"),
    ],
)
def test_an_initial_value_has_its_shape_and_jax_s_dtype(value, dtype):
    created, _ = js.get_variable({}, "w", initializer=value, key=KEY)
    np.testing.assert_array_equal(created, np.asarray(value))
    assert created.dtype == dtype
    assert not created.weak_type


def test_an_initial_value_is_copied():
    array = np.arange(1000.0, dtype=np.float32)
    first, tree = js.get_variable({}, "a", initializer=array, key=KEY)
    constant = init.constant(array)
    second, tree = js.get_variable(tree, "b", initializer=constant, key=KEY)
    third, tree = js.get_variable(tree, "c", initializer=constant, key=KEY)
    array[0] = 99
    assert first[0] == second[0] == third[0] == 0
    donated = jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)(tree)
    assert donated["b"][0] == donated["c"][0] == 1


def test_what_knows_its_shape_needs_none_and_fills_another():
    assert js.get_variable({}, "w", initializer=init.range(3), key=KEY)[0].tolist() == [0, 1, 2]
    value, _ = js.get_variable({}, "w", (2,), initializer=init.constant(0.5), key=KEY)
    assert value.tolist() == [0.5, 0.5]
    with fails(js.InitializerError, "Variable 'a/w': range(", "has shape (3,)"):
        js.get_variable({}, "a/w", (4,), initializer=init.range(3), key=KEY)


WRONG_ARGUMENTS = [
    ({"shape": 2, "initializer": 1.0}, js.InitializerError, "If initializer is a constant, do not"),
    (
        {"dtype": jnp.float32, "initializer": 1},
        js.DtypeMismatchError,
        "Initializer type 'int32' and explicit dtype 'float32' don't match.",
    ),
    ({}, js.InitializerError, "so its `shape` argument must be specified"),
    ({"initializer": init.zeros}, js.InitializerError, "`shape` argument must be specified"),
    ({"shape": (2, -1)}, js.ShapeMismatchError, "Dimension -1 must be >= 0"),
    ({"shape": (2, None)}, js.ShapeMismatchError, "must be fully defined, but instead was (2, No"),
    ({"shape": 2.5}, js.ShapeMismatchError, "an int or a sequence of ints, got 2.5"),
    ({"shape": "ab"}, js.ShapeMismatchError, "got 'ab'"),
    ({"shape": 2, "dtype": "float64"}, js.DtypeMismatchError, "jax_enable_x64"),
    ({"shape": 2, "dtype": np.int64}, js.DtypeMismatchError, "write dtype=jnp.int32"),
    ({"shape": 2, "dtype": "foo"}, js.DtypeMismatchError, "must be one of JAX's"),
    (
        {"shape": 2, "initializer": "zeros"},
        js.InitializerError,
        "is not valid: 'zeros' of type str",
    ),
    ({"initializer": {}}, js.InitializerError, "f(key, shape, dtype)"),
    (
        {"shape": 2, "initializer": init.glorot_uniform},
        js.InitializerError,
        "write init.glorot_uniform().",
    ),
    (
        {"shape": 2, "initializer": init.random_normal},
        js.InitializerError,
        "write init.random_normal().",
    ),
    (
        {"shape": 2, "initializer": jax.nn.initializers.he_normal},
        js.InitializerError,
        "returned function, not an array. It makes initializers: call it",
    ),
    (
        {"shape": 2, "initializer": lambda *_: None},
        js.InitializerError,
        "returned NoneType, not an array.",
    ),
    (
        {"shape": 2, "initializer": lambda *_: jnp.ones(3)},
        js.InitializerError,
        "was called for shape (2,) and dtype float32, and returned shape (3,) and dtype float32.",
    ),
    (
        {"shape": 2, "initializer": lambda *_: np.ones(2)},
        js.InitializerError,
        "and returned shape (2,) and dtype float64. Nothing is reshaped or cast",
    ),
    ({"shape": 2, "initializer": init.identity()}, js.InitializerError, "only be used for 2D"),
]


@pytest.mark.parametrize(("arguments", "kind", "text"), WRONG_ARGUMENTS)
def test_wrong_arguments_name_the_variable_and_say_what_is_wrong(arguments, kind, text):
    with fails(kind, "a/w", text):
        js.get_variable({}, "a/w", key=KEY, **arguments)


def test_a_traced_initial_value_or_shape_is_an_error_that_says_so():
    def from_value(x):
        return js.get_variable({}, "a/w", initializer=[x, 1.0], key=KEY)[0]

    def from_shape(n):
        return js.get_variable({}, "a/w", (n, 2), key=KEY)[0]

    with fails(js.InitializerError, "'a/w' is traced", "initial values can't depend on traced"):
        jax.jit(from_value)(1.0)
    with fails(js.ShapeMismatchError, "'a/w' must be known when the model is traced"):
        jax.jit(from_shape)(2)


def test_shapes_may_be_numpy_s():
    for shape in [np.int64(2), np.array(2), np.array([2]), [np.int32(2)], iter([2])]:
        assert js.get_variable({}, "w", shape, key=KEY)[0].shape == (2,)


def test_an_error_of_the_initializer_itself_gets_a_note():
    def broken(key, shape, dtype):
        raise ZeroDivisionError("one over none")

    with pytest.raises(ZeroDivisionError) as caught:
        js.get_variable({}, "a/w", 2, initializer=broken, key=KEY)
    assert "(While variable 'a/w' was initialized.)" in caught.value.__notes__


def test_x64_dtypes_exist_where_jax_has_them():
    with jax.enable_x64(True):
        value, _ = js.get_variable({}, "w", (2,), "float64", key=KEY)
        assert value.dtype == np.float64
        value, _ = js.get_variable({}, "n", initializer=3, key=KEY)
        assert value.dtype == np.int64


def test_a_variable_of_keys_is_created_by_a_function():
    value, tree = js.get_variable(
        {}, "k", 2, KEY.dtype, lambda key, shape, dtype: jax.random.split(key, shape), key=KEY
    )
    assert value.shape == (2,)
    assert js.assign(tree, "k", value)["k"] is not value


def test_variables_of_one_kind_share_one_program():
    traces = []

    def counted(key, shape, dtype):
        traces.append(shape)
        return jnp.zeros(shape, dtype)

    tree = js.VarTree()
    for i in range(5):
        _, tree = js.get_variable(tree, f"layer_{i}/w", (2, 2), initializer=counted, key=KEY)
    assert traces == [(2, 2)]


def test_an_initializer_that_cant_be_hashed_works_and_is_compiled_once():
    class Unhashable:
        __hash__ = None
        calls = 0

        def __call__(self, key, shape, dtype):
            self.calls += 1
            return normal(key, shape, dtype)

        def __repr__(self):
            return "Unhashable()"

    initializer, other = Unhashable(), Unhashable()
    tree = js.VarTree()
    for name in ["w", "v"]:
        value, tree = js.get_variable(tree, name, 3, initializer=initializer, key=KEY)
        np.testing.assert_array_equal(value, expected_normal(name, (3,)))
    assert initializer.calls == 1
    js.get_variable(tree, "u", 3, initializer=other, key=KEY)
    assert other.calls == 1
    assert _initial._hashable(initializer) != _initial._hashable(other)
    assert repr(_initial._hashable(initializer)) == "Unhashable()"


def test_checked_gives_the_initializer_s_value_for_a_key_inside_larger_programs():
    wanted = _request.normalize("a/w", (2,), None, normal)
    words = jnp.asarray(np.stack([name_words(name) for name in ["a/w", "b/w"]]))
    stacked = jax.jit(
        lambda ws: jax.lax.map(
            lambda w: _initial.uncompiled(
                "a/w", wanted.initializer, fold_words(KEY, w), wanted.shape, wanted.dtype
            ),
            ws,
        )
    )(words)
    np.testing.assert_array_equal(stacked[1], expected_normal("b/w", (2,)))


def test_known_shape_is_that_of_what_is_written_down():
    assert _request.known_shape([1.0, 2.0]) == (2,)
    assert _request.known_shape(init.range(4)) == (4,)
    assert _request.known_shape(3) == ()
    assert _request.known_shape(init.zeros) is None
    assert _request.known_shape(None) is None


def double(x):
    return 2 * x


def test_an_initialized_value_is_that_of_another_variable_from_the_inside_out():
    tree = js.VarTree({"w": jnp.ones(2), "a/w": jnp.array([3, 4])})
    copy, tree = js.get_variable(tree, "a/b/c", initializer=init.initialized_value("w"), key=KEY)
    assert copy.tolist() == [3, 4]
    assert copy.dtype == jnp.int32
    twice, tree = js.get_variable(
        tree, "b/c", (2,), "float32", init.initialized_value("w", double), key=KEY
    )
    assert twice.tolist() == [2, 2]
    whole, tree = js.get_variable(tree, "c", initializer=init.initialized_value("a/w"), key=KEY)
    assert whole.tolist() == [3, 4]
    jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)(tree)  # no twins


def test_an_initialized_value_must_exist_and_fit():
    with fails(
        js.MissingVariableError, "The initial value of 'a/c' is that of 'w'", "Create that variable"
    ):
        js.get_variable({}, "a/c", 2, initializer=init.initialized_value("w"), key=KEY)
    with fails(js.InitializerError, "Variable 'c'", "and returned shape (3,)"):
        js.get_variable(
            {"w": jnp.ones(3)}, "c", (2,), initializer=init.initialized_value("w"), key=KEY
        )


def test_an_initialized_value_under_jit_leaks_nothing():
    def model(tree, key):
        return js.get_variable(tree, "c", initializer=init.initialized_value("v", double), key=key)

    with jax.checking_leaks():
        value, _ = jax.jit(model)(tree_of([1.0, 2.0]), KEY)
    assert value.tolist() == [2, 4]


# 3. Assigning.


def test_assign_replaces_one_value_and_changes_nothing():
    tree = tree_of([1.0, 2.0])
    before = js.VarTree(jax.tree.map(jnp.copy, tree))
    after = js.assign(tree, "v", jnp.array([3.0, 4.0]))
    assert after["v"].tolist() == [3, 4]
    assert after["z"] is tree["z"]
    assert jax.tree.structure(after) == jax.tree.structure(tree)
    assert tree == before


def test_operations_accept_any_mapping_and_refuse_what_is_none():
    assert js.assign_add({"a": {"b": jnp.ones(1)}}, "a/b", [1])["a/b"] == 2
    with pytest.raises(TypeError, match="VarTree or another mapping is needed, got list"):
        js.assign([1], "a", 1)


eighths = st.integers(-(10**6), 10**6).map(lambda n: n / 8)  # XLA may flush subnormals
pairs = st.lists(st.tuples(eighths, eighths), min_size=3, max_size=3)


@given(pairs)
def test_add_and_sub_are_numpy_s(rows):
    start, value = map(np.float32, zip(*rows, strict=True))
    tree = tree_of(start)
    np.testing.assert_array_equal(js.assign_add(tree, "v", value)["v"], start + value)
    np.testing.assert_array_equal(js.assign_sub(tree, "v", value)["v"], start - value)
    np.testing.assert_array_equal(tree["v"], start)


integers = st.integers(-(2**31), 2**31 - 1)


@given(st.lists(st.tuples(integers, integers), min_size=3, max_size=3))
def test_integers_wrap_and_sub_undoes_add(rows):
    start, value = (np.array(x, np.int32) for x in zip(*rows, strict=True))
    added = js.assign_add(tree_of(start, dtype=jnp.int32), "v", value)
    np.testing.assert_array_equal(added["v"], start + value)
    np.testing.assert_array_equal(js.assign_sub(added, "v", value)["v"], start)


SCALARS = [
    (2, "float32"),
    (2, "int8"),
    (False, "bool"),
    (2.5, "bfloat16"),
    (2.5, "complex64"),
    (float("inf"), "float16"),
    (1j, "complex64"),
]


@pytest.mark.parametrize(("number", "dtype"), SCALARS)
@pytest.mark.parametrize("kind", ["python", "weak", "traced"])
def test_python_numbers_take_a_scalar_variable_s_dtype(number, dtype, kind):
    tree = tree_of(0, dtype=dtype)
    if kind == "python":
        after = js.assign(tree, "v", number)
    elif kind == "weak":
        after = js.assign(tree, "v", jnp.asarray(number))
    else:
        after = jax.jit(lambda x: js.assign(tree, "v", x))(number)
    np.testing.assert_array_equal(after["v"], np.array(number, dtype))
    assert after["v"].dtype == dtype
    assert not after["v"].weak_type


def test_true_is_one_as_in_tf_but_only_python_s():
    for dtype in ["int32", "float32"]:
        assert js.assign(tree_of(0, dtype=dtype), "v", True)["v"] == 1
        with fails(js.DtypeMismatchError, "the value has dtype bool"):
            js.assign(tree_of(0, dtype=dtype), "v", jnp.asarray(True))


def test_lists_of_numbers_take_the_variable_s_dtype_too():
    assert js.assign(tree_of([[0.0, 0.0]]), "v", [[1, 2.5]])["v"].tolist() == [[1, 2.5]]
    assert js.assign(tree_of(np.zeros(0), dtype="int32"), "v", [])["v"].shape == (0,)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int32", 1.0),
        ("int32", 2**40),
        ("int8", 300),
        ("uint8", -1),
        ("bool", 1),
        ("float32", 1j),
        ("float32", 1e40),
        ("float16", 70000),
        ("float32", 2**70),
    ],
)
def test_python_numbers_that_dont_fit_are_an_error(dtype, value):
    tree = tree_of(0, dtype=dtype)
    with fails(js.DtypeMismatchError, f"'v' has dtype {dtype}, which can't hold the value"):
        js.assign(tree, "v", value)


def test_weak_scalars_of_another_kind_are_an_error_traced_or_not():
    tree = tree_of(0, dtype="int8")
    with fails(js.DtypeMismatchError, "which can't hold the value 1.5"):
        js.assign(tree, "v", jnp.asarray(1.5))
    with fails(js.DtypeMismatchError, "has dtype int8, the value has dtype float32"):
        jax.jit(lambda x: js.assign(tree, "v", x))(1.5)


@pytest.mark.parametrize("junk", [None, "abc", [1, None], {"a": 1}, [np.float32(1)]])
def test_what_is_no_number_is_an_error(junk):
    with fails(js.DtypeMismatchError, "for variable 'v' must be an array, a Python number or"):
        js.assign(tree_of(0.0), "v", junk)


def test_ragged_lists_and_keys_hold_no_numbers():
    with fails(js.DtypeMismatchError, "can't hold the value [[1], [1, 2]]"):
        js.assign(tree_of(0.0), "v", [[1], [1, 2]])
    with fails(js.DtypeMismatchError, "dtype key<fry>, which can't hold the value 1"):
        js.assign({"k": KEY}, "k", 1)


@pytest.mark.parametrize("operation", [js.assign, js.assign_add, js.assign_sub])
def test_nothing_is_broadcast_or_cast(operation):
    tree = tree_of([1.0, 2.0], "a/w")
    name = f"js.{operation.__name__} doesn't broadcast"
    with fails(js.ShapeMismatchError, "jnp.full_like(tree['a/w'], value)", name):
        operation(tree, "a/w", 1)
    with fails(js.ShapeMismatchError, "has shape (2,), the value has shape (1,)", "broadcast_to"):
        operation(tree, "a/w", np.ones(1, np.float32))
    with fails(js.DtypeMismatchError, "'a/w' has dtype float32, the value has dtype float64"):
        operation(tree, "a/w", np.ones(2))
    with fails(js.DtypeMismatchError, "write value.astype('float32')"):
        operation(tree, "a/w", jnp.ones(2, jnp.bfloat16))
    with fails(
        js.MissingVariableError,
        "close names: 'a/w'",
        f"js.{operation.__name__} never creates a variable: write tree | {{'a/v': value}}.",
    ):
        operation(tree, "a/v", 1)


@pytest.mark.parametrize("operation", [js.assign_add, js.assign_sub])
@pytest.mark.parametrize("value", [jnp.array([True]), jax.random.split(KEY, 1)])
def test_bools_and_keys_are_assigned_but_not_added(operation, value):
    tree = js.VarTree({"v": value})
    assert js.assign(tree, "v", value)["v"].dtype == value.dtype
    with fails(js.DtypeMismatchError, f"js.{operation.__name__} needs numbers", "js.assign(tree,"):
        operation(tree, "v", value)


def test_an_array_of_the_tree_is_copied_so_that_the_tree_can_be_donated():
    tree = js.VarTree({"a": jnp.ones(3), "b": jnp.zeros(3)})
    tree = js.assign(tree, "b", tree["a"])
    donated = jax.jit(lambda t: js.assign_add(t, "a", t["b"]), donate_argnums=0)(tree)
    assert donated["a"].tolist() == [2, 2, 2]


def test_a_numpy_value_is_copied():
    value = np.zeros(1000, np.float32)
    tree = js.assign(tree_of(value), "v", value)
    value[0] = 1
    assert tree["v"][0] == 0


def test_numpy_s_64_bit_variables_are_not_cut_silently():
    tree = js.VarTree({"step": np.int64(2**40)})
    for operation in [js.assign_add, js.count_up_to]:
        with fails(js.DtypeMismatchError, "'step' is requested as int64", "jax_enable_x64"):
            operation(tree, "step", 1)
    with jax.enable_x64(True):
        assert js.assign_add(tree, "step", 1)["step"] == 2**40 + 1


def test_abstract_trees_work_where_no_value_is_needed_and_under_eval_shape():
    tree = jax.eval_shape(lambda: tree_of([1.0, 2.0]))
    assert js.assign(tree, "v", [1, 2])["v"].tolist() == [1, 2]
    assert js.assign(tree, "v", jax.ShapeDtypeStruct((2,), jnp.float32))["v"].shape == (2,)
    assert jax.eval_shape(lambda t: js.assign_add(t, "v", [1, 2]), tree) is not None
    with fails(js.DtypeMismatchError, "is abstract", "lambda tree: js.scatter_add(tree, ...)"):
        js.scatter_add(tree, "v", [0], 1)


# 4. Counting.


def test_count_up_to_gives_the_old_value_until_the_limit():
    tree = tree_of(0, dtype=jnp.int32)
    seen = []
    for _ in range(3):
        value, tree = js.count_up_to(tree, "v", 3)
        seen.append(int(value))
    assert seen == [0, 1, 2]
    with fails(js.LimitReachedError, "Reached limit of 3: variable 'v' is at 3"):
        js.count_up_to(tree, "v", 3)
    assert tree["v"] == 3


def test_count_up_to_stays_at_the_limit_under_jit():
    with jax.checking_leaks():
        count = jax.jit(lambda t: js.count_up_to(t, "v", 3))
        for start, end in [(0, 1), (2, 3), (3, 3), (5, 5)]:
            value, tree = count(tree_of(start, dtype=jnp.int32))
            assert (value, tree["v"]) == (start, end)
            assert tree["v"].dtype == jnp.int32


def test_count_up_to_is_for_scalar_counters():
    with fails(js.DtypeMismatchError, "needs an int32 or int64 counter", "float32"):
        js.count_up_to(tree_of(0.0), "v", 3)
    with fails(js.ShapeMismatchError, "needs a scalar; variable 'v' has shape (1,)"):
        js.count_up_to(tree_of([0], dtype=jnp.int32), "v", 3)
    with fails(js.DtypeMismatchError, "which can't hold the limit 2.5"):
        js.count_up_to(tree_of(0, dtype=jnp.int32), "v", 2.5)


# 5. Scattering: laws.


def numpy_scatter(kind, start, indices, updates):
    """The definition, one index after the other; indices out of range are dropped."""
    result = start.copy()
    for index, update in zip(indices, updates, strict=True):
        if 0 <= index < len(result):
            result[index] = REFERENCE[kind](result[index], update)
    return result


REFERENCE = {
    "update": lambda row, update: update,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": lambda row, update: np.trunc(row / update),
    "min": np.minimum,
    "max": np.maximum,
}
SCATTERS = {kind: getattr(js, f"scatter_{kind}") for kind in REFERENCE}
JITTED = {
    kind: jax.jit(lambda tree, i, u, scatter=scatter: scatter(tree, "v", i, u))
    for kind, scatter in SCATTERS.items()
}

ROWS, COUNT = 4, 5
small = st.integers(-9, 9)
any_indices = st.lists(st.integers(-ROWS - 2, 2 * ROWS), min_size=COUNT, max_size=COUNT)
good_indices = st.lists(st.integers(0, ROWS - 1), min_size=COUNT, max_size=COUNT)
starts = st.lists(small, min_size=2 * ROWS, max_size=2 * ROWS)
news = st.lists(small, min_size=2 * COUNT, max_size=2 * COUNT)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("kind", sorted(REFERENCE))
@settings(max_examples=50)
@given(indices=any_indices, start=starts, new=news)
def test_scatter_is_the_loop_that_drops_what_is_out_of_range(kind, dtype, indices, start, new):
    start = np.array(start, dtype).reshape(ROWS, 2)
    new = np.array(new, dtype).reshape(COUNT, 2)
    if kind == "update":  # which duplicate wins is undefined: let them agree
        new = new[[indices.index(i) for i in indices]]
    if kind == "div":
        new[new == 0] = 3
    tree = tree_of(start, dtype=dtype)
    result = JITTED[kind](tree, jnp.array(indices), new)
    if kind == "div" and dtype == np.float32:
        product = numpy_scatter("mul", np.ones_like(start), indices, new)
        np.testing.assert_array_equal(result["v"], start / product)
    else:
        expected = numpy_scatter(kind, start.astype(np.float64), indices, new)
        np.testing.assert_array_equal(result["v"], expected)
    assert result["v"].dtype == dtype
    np.testing.assert_array_equal(tree["v"], start)
    np.testing.assert_array_equal(result["z"], np.ones((2, 3)))


@pytest.mark.parametrize("kind", sorted(REFERENCE))
@settings(max_examples=20)
@given(indices=good_indices, start=starts, new=news)
def test_eager_and_jit_agree(kind, indices, start, new):
    new = np.array(new, np.float32).reshape(COUNT, 2)
    if kind == "update":
        new = new[[indices.index(i) for i in indices]]
    tree = tree_of(np.array(start).reshape(ROWS, 2))
    eager = SCATTERS[kind](tree, "v", np.array(indices), new)
    np.testing.assert_array_equal(eager["v"], JITTED[kind](tree, jnp.array(indices), new)["v"])


ND_SCATTERS = {kind: getattr(js, f"scatter_nd_{kind}") for kind in ["update", "add", "sub"]}
JITTED_ND = {
    kind: jax.jit(lambda tree, i, u, scatter=scatter: scatter(tree, "v", i, u))
    for kind, scatter in ND_SCATTERS.items()
}
nd_place = st.tuples(st.integers(-2, 4), st.integers(-2, 4))


@pytest.mark.parametrize("kind", ["update", "add", "sub"])
@pytest.mark.parametrize("depth", [1, 2])
@settings(max_examples=50)
@given(places=st.lists(nd_place, min_size=COUNT, max_size=COUNT), start=starts)
def test_scatter_nd_is_the_loop_that_drops_what_is_outside(kind, depth, places, start):
    start = np.array(start, np.float32).reshape(ROWS, 2)
    new = np.arange(1.0, COUNT + 1, dtype=np.float32)
    places = [place[:depth] for place in places]
    if kind == "update":
        new = new[[places.index(place) for place in places]]
    if depth == 1:
        new = np.stack([new, -new], axis=-1)
    expected = start.copy()
    for place, update in zip(places, new, strict=True):
        if all(0 <= p < length for p, length in zip(place, (ROWS, 2), strict=False)):
            expected[place] = REFERENCE[kind](expected[place], update)
    result = JITTED_ND[kind](tree_of(start), jnp.array(places), new)
    np.testing.assert_array_equal(result["v"], expected)


def test_batch_scatter_update_is_scatter_update_in_every_element():
    start = np.zeros((2, 3, 4, 2), np.float32)
    indices = np.array([[[3, 0], [1, 2], [0, 2]], [[1, 0], [3, 1], [2, 3]]])
    new = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) + 1
    expected = start.copy()
    for b in np.ndindex(2, 3):
        for p in range(2):
            expected[(*b, indices[(*b, p)])] = new[(*b, p)]
    for i in [indices, jnp.array(indices)]:
        np.testing.assert_array_equal(
            js.batch_scatter_update(tree_of(start), "v", i, new)["v"], expected
        )
    with jax.checking_leaks():
        jitted = jax.jit(lambda t, i: js.batch_scatter_update(t, "v", i, new))
        result = jitted(tree_of(start), jnp.array(indices).at[0, 0, 0].set(-1))
    expected[0, 0, 3] = 0  # -1 is dropped
    np.testing.assert_array_equal(result["v"], expected)


@pytest.mark.parametrize("kind", sorted(REFERENCE))
def test_scalar_updates_and_indices_of_any_shape(kind):
    start = np.arange(1.0, 13, dtype=np.float32).reshape(4, 3)
    scatter, indices = SCATTERS[kind], [[0, 2], [2, 3]]
    flat = np.array(indices).reshape(-1)
    expected = numpy_scatter(kind, start, flat, np.full((4, 3), 2.0))
    if kind == "div":
        expected = start / np.array([2, 1, 4, 2], np.float32)[:, None]
    for updates in [2, 2.0, jnp.float32(2), np.full((2, 2, 3), 2, np.float32)]:
        result = scatter(tree_of(start), "v", indices, updates)
        np.testing.assert_array_equal(result["v"], expected)
    one = scatter(tree_of(start), "v", 1, [1, 2, 3])["v"]
    np.testing.assert_array_equal(one[0], start[0])


@pytest.mark.parametrize("kind", sorted(REFERENCE))
@pytest.mark.parametrize("shape", [(0,), (3, 0), (3,)])
def test_nothing_is_scattered_where_there_is_nothing(kind, shape):
    tree = tree_of(np.ones(shape))
    none = np.zeros((0, *shape[1:]), np.float32)
    for indices in [[], np.zeros(0, np.int32), jnp.zeros(0, jnp.int32)]:
        np.testing.assert_array_equal(SCATTERS[kind](tree, "v", indices, none)["v"], tree["v"])
    whole = tree_of(np.ones(shape), dtype="int32")
    assert SCATTERS[kind](whole, "v", [], none.astype("int32"))["v"].shape == shape
    one = np.ones((1, *shape[1:]), np.int32)
    dropped = JITTED[kind](whole, jnp.array([7]), one)
    np.testing.assert_array_equal(dropped["v"], whole["v"])
    if shape == (3, 0):
        assert SCATTERS[kind](tree, "v", [1, 1], np.ones((2, 0), np.float32))["v"].shape == shape


def test_integers_are_divided_one_by_one_towards_zero():
    tree = tree_of([7, -7, 7, -7, 100], dtype=jnp.int32)
    result = js.scatter_div(tree, "v", [0, 1, 2, 3, 4, 4], [2, 2, -2, -2, 3, 2])
    assert result["v"].tolist() == [3, -3, -3, 3, 16]
    huge = js.scatter_div(tree, "v", [4, 4], [2**20, 2**20])  # whose product would wrap
    assert huge["v"][4] == 0


def test_half_precision_is_divided_in_single():
    tree = tree_of([20000.0], dtype=jnp.float16)
    assert js.scatter_div(tree, "v", [0, 0], [300, 300])["v"] == np.float16(20000 / 90000)


def test_complex_numbers_scatter_but_have_no_order():
    tree = tree_of([1 + 1j], dtype=jnp.complex64)
    assert js.scatter_mul(tree, "v", [0, 0], [1j, 2])["v"] == -2 + 2j
    assert js.scatter_div(tree, "v", [0], [1j])["v"] == 1 - 1j
    for scatter in [js.scatter_min, js.scatter_max]:
        with fails(js.DtypeMismatchError, "needs real numbers; variable 'v' has dtype complex64"):
            scatter(tree, "v", [0], [1])


def test_nan_wins_in_min_and_max():
    tree = tree_of([1.0, np.nan, 2.0])
    for scatter in [js.scatter_min, js.scatter_max]:
        result = scatter(tree, "v", [0, 1, 2], [np.nan, 1.0, 2.0])["v"]
        np.testing.assert_array_equal(result, [np.nan, np.nan, 2.0])


def test_bools_scatter_update_and_nothing_else():
    tree = tree_of([True, False], dtype=bool)
    assert js.scatter_update(tree, "v", [0], False)["v"].tolist() == [False, False]
    for kind in ["add", "sub", "mul", "div", "min", "max", "nd_add", "nd_sub"]:
        with fails(js.DtypeMismatchError, f"js.scatter_{kind} needs", "has dtype bool"):
            getattr(js, f"scatter_{kind}")(tree, "v", [0], True)


def test_keys_scatter_update():
    keys = jax.random.split(KEY, 3)
    result = js.scatter_update({"k": keys}, "k", [2], keys[:1])
    np.testing.assert_array_equal(jax.random.key_data(result["k"][2]), jax.random.key_data(keys[0]))


# 6. Scattering: errors.


@pytest.mark.parametrize("kind", sorted(REFERENCE))
def test_concrete_indices_out_of_range_are_an_error_in_tf_s_words(kind):
    tree, scatter = tree_of(np.ones(6), "a/w"), SCATTERS[kind]
    with fails(js.IndexOutOfRangeError, "indices[2] = 6 is not in [0, 6), for variable 'a/w'"):
        scatter(tree, "a/w", [0, 1, 6], 1)
    with fails(js.IndexOutOfRangeError, "indices[1,0] = -1 is not in [0, 6)", "from the end"):
        scatter(tree, "a/w", jnp.array([[0, 1], [-1, 1]]), 1)
    with fails(js.IndexOutOfRangeError, "indices = 9 is not in [0, 6)"):
        scatter(tree, "a/w", 9, 1)
    with fails(js.IndexOutOfRangeError, f"indices[0] = {2**40} is not in"):
        scatter(tree, "a/w", np.array([2**40]), 1)
    with fails(js.IndexOutOfRangeError, "is not in [0, 6)"):  # concrete, though in jit
        jax.jit(lambda t: scatter(t, "a/w", np.array([7]), 1))(tree)


@pytest.mark.parametrize("kind", ["update", "add", "sub"])
def test_concrete_places_outside_are_an_error_in_tf_s_words(kind):
    tree, scatter = tree_of(np.ones((1, 2)), "a/w"), getattr(js, f"scatter_nd_{kind}")
    with fails(
        js.IndexOutOfRangeError, "indices[0,1] = [1, -4] does not index into shape [1, 2]", "'a/w'"
    ):
        scatter(tree, "a/w", [[[0, 1], [1, -4]]], [[1, 2]])
    with fails(js.IndexOutOfRangeError, "indices = [5] does not index into shape [1, 2]"):
        scatter(tree, "a/w", [5], [1, 2])


def test_batch_indices_longer_than_the_variable_are_outside():
    tree = tree_of(np.zeros((2, 3)))
    with fails(js.IndexOutOfRangeError, "indices[1,1] = [1, 5] does not index into shape [2, 3]"):
        js.batch_scatter_update(tree, "v", [[0, 2], [1, 5]], [[1, 2], [3, 4]])
    with fails(js.IndexOutOfRangeError, "indices[2,0] = [2, 0] does not index"):
        js.batch_scatter_update(tree, "v", [[0], [0], [0]], [[1], [2], [3]])
    with fails(js.ShapeMismatchError, "needs indices of at least one dimension"):
        js.batch_scatter_update(tree, "v", 0, [1, 2, 3])


@pytest.mark.parametrize(
    ("indices", "dtype"),
    [([0.0], "float64"), ([True], "bool"), (np.array([0], np.uint32), "uint32"), (["a"], "<U1")],
)
def test_indices_are_integers(indices, dtype):
    for scatter in [js.scatter_add, js.scatter_nd_add, js.batch_scatter_update]:
        with fails(js.DtypeMismatchError, f"'v' must be int32 or int64, got {dtype}"):
            scatter(tree_of([1.0]), "v", indices, 1)


@pytest.mark.parametrize("kind", sorted(REFERENCE))
def test_updates_have_the_shape_of_indices_and_rows(kind):
    tree, scatter = tree_of(np.ones((3, 2)), "a/w"), SCATTERS[kind]
    for shape in [(2,), (1, 2), (2, 2, 2), (2, 1)]:
        with fails(
            js.ShapeMismatchError, "'a/w' of shape (3, 2) needs updates of shape (2, 2)", str(shape)
        ):
            scatter(tree, "a/w", [0, 1], np.ones(shape, np.float32))
    with fails(js.DtypeMismatchError, "write updates.astype('float32')"):
        scatter(tree, "a/w", [0, 1], np.ones((2, 2)))
    with fails(js.DtypeMismatchError, "can't hold the updates 1j"):
        scatter(tree, "a/w", [0, 1], 1j)
    with fails(js.MissingVariableError, f"js.scatter_{kind} never creates a variable"):
        scatter(tree, "a/v", [0, 1], 1)
    with fails(js.ShapeMismatchError, "'s' is a scalar. Write js.assign(tree, 's', value)."):
        scatter({"s": jnp.float32(1)}, "s", [0], 1)


@pytest.mark.parametrize("kind", ["update", "add", "sub"])
def test_nd_updates_have_the_shape_of_places_and_slices(kind):
    tree, scatter = tree_of(np.ones((3, 2))), getattr(js, f"scatter_nd_{kind}")
    with fails(js.ShapeMismatchError, "needs updates of shape (1, 2) for these", "got shape (1,)"):
        scatter(tree, "v", [[0]], [1])
    with fails(js.ShapeMismatchError, "got shape ()"):  # TF has no scalar updates here
        scatter(tree, "v", [[0]], 1)
    for indices in [0, np.zeros((1, 0), int), [[0, 0, 0]]]:
        with fails(js.ShapeMismatchError, "whose last axis holds 1 to 2 coordinates"):
            scatter(tree, "v", indices, 1)


def test_lists_with_traced_indices_are_traced():
    result = jax.jit(lambda i: js.scatter_add(tree_of([1.0, 2.0]), "v", [0, i], 1))(-1)
    assert result["v"].tolist() == [2, 2]


# 7. Transforms.

OPERATIONS = {
    "assign": lambda tree, x: js.assign(tree, "v", x),
    "assign_add": lambda tree, x: js.assign_add(tree, "v", x),
    "assign_sub": lambda tree, x: js.assign_sub(tree, "v", x),
    **{
        kind: lambda tree, x, f=scatter: f(tree, "v", jnp.array([0, 2, 0]), x)
        for kind, scatter in SCATTERS.items()
    },
    "nd_update": lambda tree, x: js.scatter_nd_update(tree, "v", [[0], [2], [1]], x),
    "nd_add": lambda tree, x: js.scatter_nd_add(tree, "v", [[0], [2], [0]], x),
    "nd_sub": lambda tree, x: js.scatter_nd_sub(tree, "v", [[0], [2], [0]], x),
    "batch": lambda tree, x: js.batch_scatter_update(tree, "v", [0, 2, 1], x),
}
V = np.array([1.5, -2.0, 3.0], np.float32)
X = np.array([2.0, 0.5, -4.0], np.float32)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"update"}))
def test_gradients_of_tree_and_value_are_finite_differences(name):
    operation = OPERATIONS[name]

    def loss(v, x):
        return (operation(tree_of(v), x)["v"] ** 2 * jnp.array([1.0, 2.0, 3.0])).sum()

    with jax.checking_leaks():
        grads = jax.jit(jax.grad(loss, (0, 1)))(V, X)
        forward = jax.jit(jax.jacfwd(loss, (0, 1)))(V, X)
    compiled = jax.jit(loss)
    for argument, (grad, tangent) in enumerate(zip(grads, forward, strict=True)):
        for i in range(3):
            step = np.eye(3, dtype=np.float32)[i] / 64
            both = [[V, X], [V, X]]
            both[0][argument] = both[0][argument] + step
            both[1][argument] = both[1][argument] - step
            difference = (compiled(*both[0]) - compiled(*both[1])) * 32
            np.testing.assert_allclose(grad[i], difference, rtol=2e-2, atol=1e-2)
            np.testing.assert_allclose(tangent[i], grad[i], rtol=1e-5, atol=1e-6)


def test_the_gradient_of_an_update_goes_to_what_was_kept():
    def loss(v, x):
        return js.scatter_update(tree_of(v), "v", jnp.array([0, 2]), x)["v"].sum()

    of_v, of_x = jax.grad(loss, (0, 1))(V, X[:2])
    assert of_v.tolist() == [0, 1, 0]
    assert of_x.tolist() == [1, 1]


def test_products_with_zeros_have_second_derivatives():
    def product(x):
        return js.scatter_mul(tree_of([5.0]), "v", jnp.array([0, 0, 0]), x)["v"][0]

    first, second = jax.jit(jax.grad(product)), jax.jit(jax.hessian(product))
    for x in [[2.0, 0.0, 3.0], [0.0, 0.0, 4.0], [1.0, 2.0, 3.0]]:
        a, b, c = x
        np.testing.assert_allclose(first(jnp.array(x)), [5 * b * c, 5 * a * c, 5 * a * b])
        hessian = [[0, 5 * c, 5 * b], [5 * c, 0, 5 * a], [5 * b, 5 * a, 0]]
        np.testing.assert_allclose(second(jnp.array(x)), hessian)


def test_dropped_updates_have_no_gradient():
    tree, indices = tree_of([1.0, 2.0]), jnp.array([0, -1, 9])
    for kind in ["update", "add", "mul", "div"]:
        grad = jax.jit(jax.grad(lambda x, i, f=JITTED[kind]: f(tree, i, x)["v"].sum()))(X, indices)
        assert grad[0] != 0
        assert grad[1:].tolist() == [0, 0]


@pytest.mark.parametrize("padding", [0.0, np.inf])
def test_padding_spoils_no_gradient(padding):
    tree, indices = tree_of([1.0, 2.0]), jnp.array([0, 2, 1, 2])
    x = jnp.array([2.0, padding, 4.0, padding])
    for kind in ["mul", "div"]:
        grad = jax.grad(lambda x, f=JITTED[kind]: f(tree, indices, x)["v"].sum())(x)
        expected = {"mul": [1, 0, 2, 0], "div": [-0.25, 0, -0.125, 0]}[kind]
        assert grad.tolist() == expected


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_vmap_is_a_loop_over_trees_and_values(name):
    operation = OPERATIONS[name]
    trees = js.VarTree({"v": jnp.stack([V, 2 * V]), "z": jnp.ones((2, 2, 3))})
    values = jnp.stack([X, X + 1])
    if name == "update":  # which duplicate wins is undefined
        values = values.at[:, 2].set(values[:, 0])
    with jax.checking_leaks():
        mapped = jax.vmap(operation)(trees, values)
    for i in range(2):
        one = operation(jax.tree.map(operator.itemgetter(i), trees), values[i])
        np.testing.assert_array_equal(mapped["v"][i], one["v"])


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_jit_is_eager_and_leaks_nothing(name):
    operation = OPERATIONS[name]
    value = X if name != "update" else X[[0, 1, 0]]
    with jax.checking_leaks():
        jitted = jax.jit(operation)(tree_of(V), value)
    assert jitted == operation(tree_of(V), value)


# Without assign, whose result is the value, in the value's place.
@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"assign"}))
def test_a_donated_tree_is_changed_in_place(name):
    tree = js.VarTree({"v": jnp.zeros((3000, 8)), "z": jnp.zeros(500)})
    rows = 3000 if name.startswith("assign") else 3
    value = jnp.ones((rows, 8))
    compiled = jax.jit(OPERATIONS[name], donate_argnums=0).lower(tree, value).compile()
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes == tree.nbytes
    assert memory.temp_size_in_bytes < 2000


def test_scan_carries_a_tree():
    def body(tree, i):
        tree = js.scatter_add(tree, "v", i, 1)
        count, tree = js.count_up_to(tree, "n", 3)
        return tree, count

    tree = js.VarTree({"v": jnp.zeros(3), "n": jnp.int32(0)})
    tree, counts = jax.lax.scan(body, tree, jnp.array([0, 2, 2, 7, -1]))
    assert tree["v"].tolist() == [1, 0, 2]
    assert counts.tolist() == [0, 1, 2, 3, 3]
    assert tree["n"] == 3


def test_errors_are_also_the_built_ins_one_expects():
    assert issubclass(_errors.IndexOutOfRangeError, IndexError)
    assert issubclass(_errors.LimitReachedError, IndexError)
    assert issubclass(_errors.DtypeMismatchError, TypeError)
