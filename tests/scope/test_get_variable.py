"""The arguments of `Scope.get_variable`: TF1's list, and what each means here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jscope as js
from jscope import initializers as init

KEY = jax.random.key(0)


def declare_w(*args, **kwargs):
    declared = js.declare(lambda scope: scope.get_variable("w", *args, **kwargs))()
    return declared["w"]


def value_of_w(**kwargs):
    return js.init(lambda scope: scope.get_variable("w", **kwargs))(KEY)["w"]


def apply_w(value, *args, **kwargs):
    return js.Scope({"w": value}).get_variable("w", *args, **kwargs)


# Initializers that take no arguments.


def table():
    return jnp.arange(6.0).reshape(2, 3) * 1.5


def with_defaults(n=3, *, scale=2.0):
    return np.full(n, scale, np.float32)


class Table:
    def __call__(self, n=2):
        return np.ones((n,), np.float16)


@pytest.mark.parametrize(
    ("function", "expected", "dtype"),
    [
        (table, [[0.0, 1.5, 3.0], [4.5, 6.0, 7.5]], "float32"),
        (with_defaults, [2.0, 2.0, 2.0], "float32"),
        (functools.partial(with_defaults, 2, scale=7.0), [7.0, 7.0], "float32"),
        (lambda: 3, 3, "int32"),
        (lambda *args: np.arange(2), [0, 1], "int32"),
        (Table(), [1.0, 1.0], "float16"),
    ],
)
def test_an_initializer_without_arguments_gives_the_value_its_shape_and_its_dtype(
    function, expected, dtype
):
    expected = jnp.asarray(expected, dtype)
    spec = declare_w(initializer=function)
    assert (spec.shape, spec.dtype) == (expected.shape, expected.dtype)
    made, _ = js.get_variable({}, "w", initializer=function, key=KEY)
    jitted = jax.jit(lambda: value_of_w(initializer=function))()
    for value in (value_of_w(initializer=function), made, jitted):
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)
    assert apply_w(expected, initializer=function) is expected


def test_no_arguments_and_dtypes():
    """The value's own dtype beats the scope's; one that is requested must be the value's."""

    def model(scope):
        half = scope.variable_scope("half", dtype="float16", reuse=js.AUTO_REUSE)
        half.get_variable("w", initializer=table)
        half.get_variable("w", initializer=table)
        half.variable_scope("by_scope", initializer=table).get_variable("w")

    assert {s.dtype for s in js.declare(model)().values()} == {np.dtype("float32")}
    assert declare_w(dtype="float32", initializer=table).dtype == np.float32
    with pytest.raises(js.DtypeMismatchError, match="Initializer type 'float32' and explicit"):
        declare_w(dtype="int32", initializer=table)


def test_what_is_no_initializer_without_arguments():
    with pytest.raises(js.InitializerError, match=r"takes no arguments.*leave shape=\(2, 3\)"):
        declare_w((2, 3), initializer=table)
    with pytest.raises(js.InitializerError, match="initializer passed is not valid"):
        declare_w(initializer=lambda: init.zeros)
    with pytest.raises(js.InitializerError, match=r"not valid by itself.*`shape` argument must be"):
        declare_w(initializer=lambda key, shape, dtype: jnp.ones(shape, dtype))
    with pytest.raises(js.InitializerError, match="`shape` argument must be specified"):
        declare_w(initializer=init.zeros)
    with pytest.raises(js.InitializerError, match="`shape` argument must be specified"):
        declare_w(initializer=min)  # which doesn't say what it takes


def test_an_initializer_without_arguments_may_not_close_over_traced_values():
    with pytest.raises(js.InitializerError, match="depends on a traced value"):
        js.declare(lambda s, x: s.get_variable("w", initializer=lambda: x + 1))(jnp.ones(2))


# Shapes.


def test_a_partial_shape_fits_a_value_that_knows_its_own():
    assert declare_w((None, 3), initializer=table).shape == (2, 3)
    assert declare_w((None,), initializer=init.range(4)).shape == (4,)
    with pytest.raises(js.ShapeMismatchError, match=r"or fit its initial value's \(2, 3\)"):
        declare_w((None, 4), initializer=table)
    with pytest.raises(js.ShapeMismatchError, match="must be fully defined, but instead was"):
        declare_w((None, 3), initializer=init.zeros)


def test_what_may_be_called_with_or_without_arguments_gets_them_if_there_is_a_shape():
    def either(*args):
        return jnp.zeros(3) if not args else jnp.ones(args[1], args[2])

    assert value_of_w(initializer=either).tolist() == [0, 0, 0]
    assert value_of_w(shape=(2,), initializer=either).tolist() == [1, 1]
    with pytest.raises(js.InitializerError, match="takes no arguments"):
        value_of_w(shape=(3,), initializer=lambda a=1, b=2: jnp.zeros(3))


# Constants.


def test_a_constant_that_fills_a_shape_is_float32_unless_a_dtype_is_said():
    three = init.constant(3)
    assert declare_w((2,), initializer=three).dtype == "float32"
    assert declare_w((2,), "int32", three).dtype == "int32"
    assert declare_w(initializer=three).dtype == "int32"  # no shape: the value itself
    assert declare_w(initializer=3).dtype == "int32"
    assert declare_w((5,), initializer=init.range(5)).dtype == "int32"

    def model(scope):
        with scope.variable_scope("half", dtype="float16", initializer=three) as half:
            half.get_variable("w", (2,))

    assert js.declare(model)()["half/w"].dtype == "float16"
    np.testing.assert_array_equal(value_of_w(shape=(2,), initializer=three), [3.0, 3.0])


@pytest.mark.parametrize("initializer", [init.constant([1, 2]), init.range(2)])
def test_a_partial_shape_that_is_not_the_initial_value_s_is_an_error(initializer):
    assert declare_w((None,), initializer=initializer).shape == (2,)
    text = (
        r"Shape of a new variable \(w\) must be fully defined, or fit its initial value's \(2,\), "
        r"but instead was \(None, 3\)."
    )
    with pytest.raises(js.ShapeMismatchError, match=text):
        declare_w((None, 3), initializer=initializer)


@pytest.mark.parametrize("shape", [None, (None, 3), (2, None), [2, 3], (None, None)])
def test_a_partial_shape_fits_when_sharing_and_when_applying(shape):
    def model(scope):
        scope.shared("a").get_variable("w", (2, 3))
        return scope.shared("a").get_variable("w", shape)

    assert js.declare(model)()._times == {"a/w": 2}
    assert model(js.Scope({"a/w": jnp.ones((2, 3))})).shape == (2, 3)


@pytest.mark.parametrize("mode", ["declared", "bound"])
def test_validate_shape_false_leaves_the_shape_of_what_exists_alone(mode):
    """The variable of TF whose shape changes: here from one call to the next."""

    def model(scope):
        scope.shared("a").get_variable("rows", (2, 3))
        return scope.shared("a").get_variable("rows", (7, 3), validate_shape=False)

    if mode == "declared":
        assert js.declare(model)()["a/rows"].shape == (2, 3)
    else:
        found = js.Scope({"rows": jnp.ones((9, 3))}).get_variable("rows", 3, validate_shape=False)
        assert found.shape == (9, 3)


def test_a_shape_beside_an_initial_value_is_an_error_when_sharing_too():
    def model(scope):
        scope.shared("a").get_variable("w", (2,))
        scope.shared("a").get_variable("w", (2,), initializer=np.ones(2, np.float32))

    with pytest.raises(js.InitializerError, match="is a constant, do not specify shape"):
        js.declare(model)()
    with pytest.raises(js.InitializerError, match="'w': If initializer is a constant, do not"):
        apply_w(jnp.ones(2), (2,), initializer=1.0)


# Collections.


def test_collections_are_declared_with_the_variable():
    def model(scope):
        scope.get_variable("w", 2)
        scope.get_variable("frozen", 2, trainable=False)
        scope.get_variable("both", 2, collections=["variables", "mine", "mine"])
        scope.get_variable("apart", 2, collections={"b", "a"})
        scope.get_variable("none", 2, collections=[], trainable=None)
        scope.get_local_variable("count", (), "int32")
        scope.get_local_variable("more", 2, trainable=True, collections=["mine"])

    declared = js.declare(model)()
    assert {name: spec.collections for name, spec in declared.items()} == {
        "w": ("variables",),
        "frozen": ("variables",),
        "both": ("variables", "mine"),
        "apart": ("a", "b"),
        "none": (),
        "count": ("local_variables",),
        "more": ("mine", "local_variables"),
    }
    assert declared.trainable == ("w", "both", "apart", "none")
    model(js.Scope(declared.init(KEY)))  # applying asks for them, and needs no collections


@pytest.mark.parametrize("ask", [js.Scope.get_variable, js.Scope.get_local_variable])
def test_collections_are_a_list_of_strings(ask):
    with pytest.raises(js.CollectionError) as caught:
        js.declare(lambda scope: ask(scope, "w", 2, collections="mine"))()
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == (
        "Variable 'w': the collections argument must be a list, tuple, or set. Got 'mine' of type "
        "<class 'str'>. Write collections=['mine']."
    )
    with pytest.raises(js.CollectionError, match=r"named by a string.*got 3"):
        js.declare(lambda scope: ask(scope, "w", 2, collections=["a", 3]))()


def test_get_local_variable_takes_all_arguments():
    def model(scope):
        a = scope.variable_scope("a", dtype="float16", initializer=init.ones, reuse=js.AUTO_REUSE)
        for _ in range(2):
            a.get_local_variable("n", (2,), regularizer=jnp.sum, constraint=jnp.abs)

    spec = js.declare(model)()["a/n"]
    assert (spec.dtype, spec.trainable, spec.regularizer) == (np.float16, False, jnp.sum)
    assert (spec.constraint, spec.initializer) == (jnp.abs, init.ones)


# What has no meaning.


@pytest.mark.parametrize(
    ("argument", "instead"),
    [
        ("caching_device", r"declared\.init\(key, mesh=mesh\)"),
        ("use_resource", "all variables are values"),
        ("synchronization", "trainable=False"),
        ("aggregation", r"jax\.lax\.pmean"),
    ],
)
@pytest.mark.parametrize("mode", ["declared", "bound"])
def test_arguments_without_a_meaning_say_what_takes_their_place(argument, instead, mode):
    run = declare_w if mode == "declared" else functools.partial(apply_w, jnp.ones(2))
    with pytest.raises(ValueError, match=instead) as caught:
        run((2,), **{argument: "x"})
    assert f"get_variable('w') was passed {argument}='x'" in str(caught.value)
    assert str(caught.value).endswith(f"Leave {argument}= out.")
    before = {"caching_device": 7, "use_resource": 10, "synchronization": 13, "aggregation": 14}
    none = (None,) * (before[argument] - 7)
    positions = ((2,), None, None, None, None, None, *none)
    with pytest.raises(js.ScopeError, match="by position, write None there") as caught:
        run(*positions, "x")
    assert f"get_variable('w') was passed {argument}='x'" in str(caught.value)
    assert run((2,), **{argument: None}).shape == (2,)


def test_a_partitioner_on_the_call_comes_before_the_scope_s():
    requested = []

    def rows(name, shape, dtype):
        requested.append((name, shape, dtype))
        return PartitionSpec("x")

    def model(scope):
        a = scope.variable_scope("a", partitioner=lambda *_: PartitionSpec(None, "y"))
        a.get_variable("w", (4, 2), partitioner=rows)
        a.get_variable("v", (4, 2))
        a.get_variable("u", (4, 2), partitioner=rows, sharding=PartitionSpec())

    specs = {name: spec.sharding for name, spec in js.declare(model)().items()}
    expected = [PartitionSpec("x"), PartitionSpec(None, "y"), PartitionSpec()]
    assert list(specs.values()) == expected
    assert requested == [("a/w", (4, 2), np.float32)]
    with pytest.raises(ValueError, match="Partitioner must be callable, but received: 3"):
        declare_w((2,), partitioner=3)
