"""Declaring: names, shapes and dtypes of a model, without computing or keeping anything."""

import copy
import dataclasses
import functools
import gc
import pickle
import resource
import sys
import threading
import weakref
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jscope as js
from jscope import initializers as init
from jscope import regularizers
from jscope._errors import (
    DtypeMismatchError,
    InitializerError,
    JscopeError,
    MissingVariableError,
    ScopeError,
    SelectorError,
    ShapeMismatchError,
    TreeMismatchError,
    VariableNameError,
)
from jscope._scope.declaring import Recorder, VariableSpec

KEY = jax.random.key(0)
X = jnp.ones((2, 3))


def dense(scope, x, *, features):
    w = scope.get_variable("w", (x.shape[-1], features), regularizer=regularizers.l2(0.5))
    b = scope.get_variable("b", (features,), initializer=init.zeros)
    y = x @ w
    return y + jnp.broadcast_to(b, y.shape)


def mlp(scope, x, *, widths=(4, 2)):
    for i, width in enumerate(widths):
        x = dense(scope / f"layer_{i}", x, features=width)
    count = scope.get_variable("count", (), jnp.int32, trainable=False)
    return x * count.astype(x.dtype)


@pytest.fixture(scope="module")
def declared():
    return js.declare(mlp)(X)


# What it is.


def test_a_declaration_is_an_ordered_mapping_to_specs(declared):
    names = ["layer_0/w", "layer_0/b", "layer_1/w", "layer_1/b", "count"]
    assert isinstance(declared, Mapping)
    assert list(declared) == names
    assert len(declared) == 5
    assert "layer_0/w" in declared
    assert 3 not in declared
    assert declared["count"] == VariableSpec((), np.dtype("int32"), init.zeros, False, None)
    assert declared["layer_0/w"] == VariableSpec(
        (3, 4), np.dtype("float32"), init.glorot_uniform(), True, regularizers.l2(0.5)
    )
    with pytest.raises(
        MissingVariableError, match=r"'layer_0/W' is declared \(close names: 'layer"
    ):
        declared["layer_0/W"]
    assert declared.get("layer_0/W") is None


def test_a_declaration_prints_as_a_table():
    def model(scope, x):
        for _ in range(2):
            x = dense(scope.shared("tied"), x, features=3)
        big = scope.get_variable("big", (1 << 10, 1 << 20), jnp.bfloat16)
        scope.get_variable("count", (), jnp.int32, trainable=False)
        return x, big

    assert repr(js.declare(model)(X)) == (
        "Declaration of 4 variables, 1,073,741,837 parameters (1,073,741,836 trainable), 2.0 GiB\n"
        "name    shape            dtype     trainable     parameters    bytes  uses\n"
        "tied/w  (3, 3)           float32   yes                    9     36 B     2\n"
        "tied/b  (3,)             float32   yes                    3     12 B     2\n"
        "big     (1024, 1048576)  bfloat16  yes        1,073,741,824  2.0 GiB     1\n"
        "count   ()               int32     no                     1      4 B     1"
    )
    assert repr(js.declare(lambda scope: None)()) == "Declaration of no variables"


def test_a_declaration_pickles_and_copies(declared):
    again = pickle.loads(pickle.dumps(declared))
    assert again == declared
    assert repr(again) == repr(declared) == repr(copy.deepcopy(declared))


def test_declaring_allocates_nothing():
    """2^34 elements are 64 GiB, and the program that declares them stays as small as it was."""

    def model(scope, x):
        w = scope.get_variable("w", (1 << 17, 1 << 17))
        ids = scope.get_variable("ids", (1 << 34,), jnp.uint8)
        return (x @ w).sum() + ids.astype(jnp.float32).sum()

    js.declare(mlp)(X)  # whatever JAX loads when it is used first
    live, before = len(jax.live_arrays()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    declared = js.declare(model)(jax.ShapeDtypeStruct((8, 1 << 17), jnp.float32))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    assert (after - before) * unit < 64 << 20
    assert len(jax.live_arrays()) <= live
    assert declared["w"].shape == (1 << 17, 1 << 17)
    assert "80.0 GiB" in repr(declared)


# The arguments: arrays are traced, all else is static.


TRACED = [
    jnp.ones(2),
    np.ones(2, np.float32),
    np.zeros((), bool),
    np.ones(2, jnp.bfloat16),
    np.ones(2, np.complex64),
    jax.ShapeDtypeStruct((2,), jnp.float32),
    jax.random.key(0),
    jax.random.PRNGKey(0),
]
STATIC = [
    3,
    2.5,
    True,
    1j,
    None,
    "text",
    b"bytes",
    np.float32(3.0),
    np.int64(3),
    np.bool_(True),
    np.array(["a", "b"]),
    np.array([None, 3], dtype=object),
    np.zeros(2, "M8[s]"),
    np.zeros(2, [("x", "i4"), ("y", "f4")]),
    jnp.float32,
    np.dtype("int32"),
    {1, 2},
    len,
    slice(1, 2),
]


@pytest.mark.parametrize("value", TRACED, ids=repr)
def test_arrays_are_traced(value):
    seen = []
    js.declare(lambda scope, *args, **more: seen.extend([*args, *more.values()]))(value, more=value)
    assert len(seen) == 2
    for inside in seen:
        assert isinstance(inside, jax.core.Tracer)
        assert inside.shape == value.shape
        assert inside.dtype == value.dtype


@pytest.mark.parametrize("value", STATIC, ids=repr)
def test_everything_else_is_static(value):
    seen = []
    js.declare(lambda scope, *args, **more: seen.extend([*args, *more.values()]))(value, more=value)
    assert seen[0] is seen[1] is value


def test_arrays_are_found_in_any_pytree():
    seen = {}

    def model(scope, config, *, batch):
        seen.update(config=config, batch=batch)

    js.declare(model)({"width": 3, "scale": X}, batch=js.VarTree({"x": X, "label": "dog"}))
    assert seen["config"]["width"] == 3
    assert isinstance(seen["config"]["scale"], jax.core.Tracer)
    assert isinstance(seen["batch"]["x"], jax.core.Tracer)
    assert seen["batch"]["label"] == "dog"


def test_partial_keeps_an_array_concrete_and_a_jax_scalar_traces_a_number():
    def model(scope, table, scale):
        assert not isinstance(table, jax.core.Tracer)
        assert isinstance(scale, jax.core.Tracer)
        scope.get_variable("w", int(table.max()) + 1)

    declared = js.declare(functools.partial(model, table=np.array([1, 5])))(scale=jnp.float32(2))
    assert declared["w"].shape == (6,)


def test_a_traced_shape_says_so():
    with pytest.raises(ShapeMismatchError, match="shape of variable 'w' must be known when"):
        js.declare(lambda scope, n: scope.get_variable("w", (n,)))(jnp.int32(3))


@dataclasses.dataclass(frozen=True)
class Model:
    features: int

    def __call__(self, scope, x):
        return dense(scope, x, features=self.features)


@pytest.mark.parametrize(
    "model",
    [
        Model(4),
        Model(4).__call__,
        functools.partial(dense, features=4),
        lambda scope, x: dense(scope, x, features=4),
        jax.jit(functools.partial(dense, features=4)),
        jax.checkpoint(functools.partial(dense, features=4)),
    ],
)
def test_anything_callable_is_a_model(model):
    assert {name: spec.shape for name, spec in js.declare(model)(X).items()} == {
        "w": (3, 4),
        "b": (4,),
    }


def test_declare_says_what_a_model_is():
    with pytest.raises(TypeError, match=r"js\.declare needs a model, a callable; got 3\."):
        js.declare(3)
    with pytest.raises(TypeError, match=r"needs a model"):
        js.init(X)


# The rules of a request.


def request(*args, **kwargs):
    return js.declare(lambda scope: scope.get_variable(*args, **kwargs))()


def test_defaults_are_tf_s():
    for dtype, initializer in [
        ("float32", init.glorot_uniform()),
        ("bfloat16", init.glorot_uniform()),
        ("int8", init.zeros),
        ("uint32", init.zeros),
        ("bool", init.zeros),
    ]:
        spec = request("w", (2, 3), dtype)["w"]
        assert (spec.initializer, spec.dtype) == (initializer, np.dtype(dtype))
    assert request("w", (2, 3))["w"].dtype == np.float32
    assert request("w", (2, 3), float)["w"].dtype == np.float32
    assert request("w", (2, 3), int)["w"].dtype == np.int32
    assert request("w", 5)["w"].shape == (5,)
    assert request("w", initializer=3)["w"].dtype == np.int32
    assert request("w", initializer=[1.0, 2.0])["w"].shape == (2,)


@pytest.mark.parametrize(
    ("error", "match", "args", "kwargs"),
    [
        (InitializerError, "An initializer for variable w of complex64 is", ("w", 2, "c8"), {}),
        (InitializerError, "Variable w did not get an initial value, so its `shape`", ("w",), {}),
        (InitializerError, "do not specify shape", ("w", 2), {"initializer": np.ones(2)}),
        (InitializerError, "write init.glorot_uniform\\(\\)", ("w", 2), {
            "initializer": init.glorot_uniform}),
        (DtypeMismatchError, "Initializer type 'int32' and explicit dtype 'float32'", ("w",), {
            "initializer": 3, "dtype": "float32"}),
        (DtypeMismatchError, "dtype of variable 'w' must be one of JAX's", ("w", jnp.int8, 2), {}),
        (DtypeMismatchError, "'w' is requested as float64", ("w", 2, "float64"), {}),
        (ShapeMismatchError, "Dimension -1 must be >= 0", ("w", (2, -1)), {}),
        (ShapeMismatchError, "must be fully defined", ("w", (None, 2)), {}),
        (ShapeMismatchError, "must be an int or a sequence of ints", ("w", (2.5,)), {}),
        (VariableNameError, "':' at position 1 is outside TF1's alphabet", ("w:0", 2), {}),
        (VariableNameError, "'_w' is not a legal name at the root", ("_w", 2), {}),
        (regularizers.RegularizerError, "Variable 'w': a regularizer is a function", ("w", 2), {
            "regularizer": 0.1}),
    ],
)  # fmt: skip
def test_requests_that_cannot_be(error, match, args, kwargs):
    with pytest.raises(error, match=match) as caught:
        request(*args, **kwargs)
    assert isinstance(caught.value, JscopeError)
    assert isinstance(caught.value, ValueError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_a_traced_initial_value_is_refused_by_name(wrap):
    def model(scope, x):
        return wrap(lambda s, x: s.get_variable("w", initializer=x * 2))(scope / "a", x)

    with pytest.raises(InitializerError, match="initial value of variable 'a/w' is traced"):
        js.declare(model)(X)


def test_a_name_may_begin_with_an_underscore_inside_a_scope():
    assert list(js.declare(lambda s: (s / "a").get_variable("_w", 2))()) == ["a/_w"]


def test_scopes_pass_their_defaults_on():
    normal, l2 = init.random_normal(0.0, 0.02), regularizers.l2(0.1)

    def model(scope):
        with scope.variable_scope("a", initializer=normal, regularizer=l2, dtype="bfloat16") as a:
            a.get_variable("w", 2)
            (a / "b").get_variable("w", 2)
            (a / "b").get_variable("own", 2, "float16", init.ones, regularizers.l1(0.1))
            a.variable_scope("c", initializer=init.ones, dtype="int8").get_variable("w", 2)
            a.get_variable("value", initializer=3)
        with scope.variable_scope("d", initializer=2.5) as d:
            d.get_variable("w")

    declared = js.declare(model)()
    facts = {n: (s.shape, str(s.dtype), s.initializer, s.regularizer) for n, s in declared.items()}
    assert facts == {
        "a/w": ((2,), "bfloat16", normal, l2),
        "a/b/w": ((2,), "bfloat16", normal, l2),
        "a/b/own": ((2,), "float16", init.ones, regularizers.l1(0.1)),
        "a/c/w": ((2,), "int8", init.ones, l2),
        # A value's own dtype beats the scope's.
        "a/value": ((), "int32", init.constant(3), l2),
        "d/w": ((), "float32", init.constant(2.5), None),
    }


def test_no_regularizer_stops_inheritance():
    def model(scope):
        with scope.variable_scope("a", regularizer=regularizers.l2(1.0)) as a:
            a.get_variable("w", 2, initializer=init.ones)
            a.get_variable("free", 2, initializer=init.ones, regularizer=js.no_regularizer)
            b = a.variable_scope("b", regularizer=js.no_regularizer)
            b.get_variable("w", 2, initializer=init.ones)

    declared = js.declare(model)()
    assert declared.regularization_loss(declared.init(KEY)) == 1.0


def test_reading_what_is_not_there_while_declaring_gets_the_right_hint():
    def model(scope, where, name):
        (scope / "m/a").get_variable("w", 2)
        return (scope / where if where else scope)[name]

    for where, name, hint in [
        ("", "m/a/W", "close names: 'm/a/w'"),
        ("m", "w", "No variable at 'm/w', but 'a/w' further down"),
        ("m", "a", "No variable at 'm/a': it is a scope of 1 variable"),
    ]:
        with pytest.raises(MissingVariableError) as caught:
            js.declare(model)(where, name)
        assert hint in str(caught.value)
        assert "to create a variable, write scope.get_variable(name, shape)" in str(caught.value)
    assert js.declare(model)("m", "a/w")._times == {"m/a/w": 2}


def test_a_declaring_scope_shows_itself():
    seen = []
    js.declare(lambda s: seen.append((repr(s / "a"), s.name, (s / "a/b").name, s.reuse)))()
    assert seen == [("Scope('a', declaring)", "", "a/b", False)]


# Nothing stays behind.


def test_a_scope_that_outlives_its_run_says_so():
    kept = []

    def model(scope):
        kept.append(scope / "a")
        scope.get_variable("w", 2)

    js.declare(model)()
    (scope,) = kept
    for use in (
        lambda: scope.get_variable("w", 2),
        lambda: (scope / "b").get_variable("w", 2),
        lambda: scope["w"],
        lambda: scope.has("w"),
        lambda: jax.jit(lambda s: s.get_variable("w", 2))(scope),
    ):
        with pytest.raises(ScopeError, match=r"'a(/b)?' belongs to a declaration that has ended"):
            use()
    assert repr(scope) == "Scope('a', declaring)"


def test_an_exception_in_a_model_passes_through_and_leaves_nothing_behind():
    fail = True

    def model(scope):
        w = scope.get_variable("w", 2)
        if fail:
            raise ZeroDivisionError
        return w

    with pytest.raises(ZeroDivisionError):
        js.declare(model)()
    fail = False
    assert js.declare(model)()._times == {"w": 1}


def test_declaring_keeps_neither_models_nor_runs_alive():
    class Weights:
        def __init__(self):
            self.large = np.ones(1000)

        def __call__(self, scope, x):
            runs.append(weakref.ref(scope._context.run))
            recorders.append(scope._context.run._recorder)
            return jax.jit(functools.partial(dense, features=3))(scope / "a", x)

    runs, recorders, model = [], [], Weights()
    alive = weakref.ref(model)
    declared = js.declare(model)(X)
    gc.collect()
    assert recorders[0]() is None  # though JAX's caches hold the scopes' structures
    del model
    jax.clear_caches()
    gc.collect()
    assert alive() is None
    assert runs[0]() is None
    assert list(declared) == ["a/w", "a/b"]


def test_declaring_computes_no_model_and_traces_it_once():
    calls = []

    def model(scope, x):
        calls.append(None)
        jax.debug.callback(lambda: calls.append("computed"))
        return dense(scope, x, features=2)

    js.init(model)(KEY, X)
    jax.effects_barrier()
    assert calls == [None]


def test_declare_works_under_transforms_and_inside_of_models():
    inner = functools.partial(dense, features=2)

    def outer(scope, x):
        sizes = {name: spec.shape for name, spec in js.declare(inner)(x).items()}
        scope.get_variable("copy", sizes["w"])
        return dense(scope / "own", x, features=2)

    with jax.checking_leaks():
        assert list(js.declare(outer)(X)) == ["copy", "own/w", "own/b"]
        found = []
        jax.jit(lambda x: found.append(js.declare(outer)(x)) or x)(X)
        jax.vmap(lambda x: found.append(js.declare(outer)(x)) or x)(X[None])
        jax.grad(lambda x: found.append(js.declare(outer)(x)) or x.sum())(X)
    assert all(dict(each) == dict(js.declare(outer)(X)) for each in found)
    assert len(found) == 3


def test_a_bound_scope_is_an_argument_like_any_other():
    def student(scope, teacher, x):
        return dense(scope, x, features=4) - dense(teacher, x, features=4)

    variables = js.init(functools.partial(dense, features=4))(KEY, X)
    assert list(js.declare(student)(js.Scope(variables), X)) == ["w", "b"]


def test_declaring_a_variable_costs_the_same_however_many_there_are(monkeypatch):
    """All variables are listed once, at the end, not for each."""
    calls, specs = [], Recorder.specs
    monkeypatch.setattr(Recorder, "specs", lambda self: calls.append(None) or specs(self))

    def model(scope):
        for i in range(20):
            assert not (scope / f"layer_{i}").has("w")
            scope.get_variable(f"layer_{i}/w", 2)
            copy = init.initialized_value("w")
            scope.get_variable(f"layer_{i}/copy", 2, initializer=copy)

    js.declare(model)()
    assert len(calls) == 1


def test_threads_declare_side_by_side():
    barrier, found = threading.Barrier(8), {}

    def work(n):
        def model(scope, x):
            for i in range(20):
                x = jax.jit(lambda s, x: x + s.get_variable("w", (n,)).sum())(scope / f"l{i}", x)
            return x

        barrier.wait()
        found[n] = js.declare(model)(X)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(1, 9):
        expected = {f"l{i}/w": (n,) for i in range(20)}
        assert {name: spec.shape for name, spec in found[n].items()} == expected


# Trees against the declaration.


def test_abstract_has_the_facts_of_what_init_gives(declared):
    abstract = declared.abstract()
    assert isinstance(abstract, js.VarTree)
    assert abstract == jax.eval_shape(declared.init, KEY)
    declared.check(abstract)


def test_split_gives_the_trainable_and_the_rest(declared):
    variables = declared.init(KEY)
    params, state = declared.split(variables)
    assert list(params) == sorted(declared.trainable)
    assert list(state) == ["count"]
    assert params | state == variables
    assert declared.split({}) == (js.VarTree(), js.VarTree())
    assert js.select(variables, declared.trainable) == params
    some = js.select(variables, "layer_0/w")
    assert declared.split(some) == (some, js.VarTree())
    with pytest.raises(
        SelectorError, match=r"trainable flag is unknown: 'new' \(no close.*js\.drop"
    ):
        declared.split(variables | {"new": 1})


def test_missing_names_what_a_tree_lacks_in_order(declared):
    assert declared.missing({}) == tuple(declared)
    assert declared.missing({"layer_0": {"w": 1, "b": 2}, "count": 3, "more": 4}) == (
        "layer_1/w",
        "layer_1/b",
    )
    assert declared.missing(declared.abstract()) == ()


def test_check_lists_every_difference_at_once(declared):
    tree = {
        "layer_0": {"w": jnp.ones((3, 5)), "b": jnp.zeros(4, jnp.bfloat16), "B": jnp.zeros(4)},
        "layer_1": {"w": jnp.ones((4, 1), jnp.float16), "b": jnp.zeros(2)},
    }
    with pytest.raises(TreeMismatchError) as caught:
        declared.check(tree)
    assert str(caught.value) == (
        "The tree differs from the declaration in 6 places:\n"
        "  missing: 'count' int32[] is not in the tree (no close name among 5: 'layer_0/B', "
        "'layer_0/b', 'layer_0/w' and 2 more)\n"
        "  unexpected: 'layer_0/B' float32[4] is in the tree but not declared\n"
        "  shape: 'layer_0/w' is (3, 5) in the tree, (3, 4) declared\n"
        "  dtype: 'layer_0/b' is bfloat16 in the tree, float32 declared\n"
        "  shape: 'layer_1/w' is (4, 1) in the tree, (4, 2) declared\n"
        "  dtype: 'layer_1/w' is float16 in the tree, float32 declared\n"
        "Declare the model with the settings the tree was made with, or js.select, js.drop or "
        "js.rename the tree's variables."
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    declared.check(declared.init(KEY))
    with pytest.raises(TypeError, match="another mapping is needed"):
        declared.check(jnp.ones(3))


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3)), st.data())
def test_check_accepts_exactly_the_declared_trees(shapes, data):
    declared = js.declare(lambda s: [s.get_variable(n, k) for n, k in shapes.items()])()
    other = data.draw(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3)))
    tree = {name: np.zeros(size, np.float32) for name, size in other.items()}
    if other == shapes:
        declared.check(tree)
    else:
        with pytest.raises(TreeMismatchError) as caught:
            declared.check(tree)
        wrong = {name for name in {*shapes, *other} if shapes.get(name) != other.get(name)}
        assert len(str(caught.value).splitlines()) == len(wrong) + 2


def test_regularization_loss_is_the_sum_of_the_terms(declared):
    variables = declared.init(KEY)
    squares = [np.sum(np.square(np.float64(variables[f"layer_{i}/w"]))) for i in range(2)]
    for tree in (variables, variables.to_nested()):
        loss = declared.regularization_loss(tree)
        np.testing.assert_allclose(loss, 0.5 * np.sum(squares) / 2, rtol=1e-6)
        assert loss.dtype == np.float32
        assert loss.shape == ()
    grads = jax.jit(jax.grad(declared.regularization_loss, allow_int=True))(variables)
    np.testing.assert_allclose(grads["layer_0/w"], 0.5 * variables["layer_0/w"], rtol=1e-6)
    np.testing.assert_array_equal(grads["layer_0/b"], np.zeros(4))
    with pytest.raises(MissingVariableError, match="No variable at 'layer_1/w'"):
        declared.regularization_loss(js.drop(variables, "layer_1/w"))


def test_regularizers_are_summed_whatever_their_dtype():
    def model(scope):
        for dtype in ("float32", "bfloat16", "float16"):
            scope.get_variable(dtype, 2, dtype, init.ones, regularizers.l1(1.0))
        scope.get_variable("number", 2, regularizer=lambda w: 3)
        scope.get_variable("none", 2, regularizer=lambda w: None)

    declared = js.declare(model)()
    loss = declared.regularization_loss(declared.init(KEY))
    assert loss == 9.0
    assert loss.dtype == np.float32
    nothing = js.declare(lambda s: s.get_variable("w", 2))()
    assert nothing.regularization_loss({}) == 0.0
    with jax.enable_x64(True):
        wide = js.declare(lambda s: s.get_variable("w", 2, "float64", init.ones, jnp.sum))()
        assert wide.regularization_loss(wide.init(jax.random.key(0))).dtype == np.float64


def test_a_regularizer_that_gives_no_scalar_is_named():
    declared = js.declare(lambda s: s.get_variable("w", 2, regularizer=jnp.abs))()
    with pytest.raises(
        regularizers.RegularizerError, match=r"of 'w' gave an array of shape \(2,\)"
    ):
        declared.regularization_loss({"w": jnp.ones(2)})


def test_the_value_of_another_variable_needs_no_shape():
    def model(scope):
        scope.get_variable("w", (3, 2), jnp.bfloat16)
        layer = scope / "layer"
        layer.get_variable("copy", initializer=init.initialized_value("w"))
        total = init.initialized_value("w", lambda w: w.astype(jnp.float32).sum())
        layer.get_variable("total", initializer=total)

    declared = js.declare(model)()
    assert declared["layer/copy"].shape == (3, 2)
    assert declared["layer/copy"].dtype == jnp.bfloat16
    assert (declared["layer/total"].shape, declared["layer/total"].dtype) == ((), np.float32)
    tree = declared.init(jax.random.key(0))
    np.testing.assert_array_equal(tree["layer/copy"], tree["w"])
    total = np.asarray(tree["w"]).astype(np.float32).sum()
    np.testing.assert_allclose(tree["layer/total"], total, rtol=1e-6)


def test_the_value_of_a_variable_created_later_needs_a_shape():
    def model(scope, shape):
        scope.get_variable("copy", shape, initializer=init.initialized_value("w"))
        scope.get_variable("w", (3,))

    tree = js.init(model)(jax.random.key(0), (3,))
    np.testing.assert_array_equal(tree["copy"], tree["w"])
    with pytest.raises(js.InitializerError, match="copy did not get an initial value"):
        js.declare(model)(None)


def test_a_variable_may_be_a_prng_key():
    dtype = KEY.dtype

    def model(scope):
        key = scope.get_variable("key", (), dtype, lambda key, shape, dtype: key, trainable=False)
        return jax.random.normal(key, (3,))

    declared = js.declare(model)()
    variables = declared.init(KEY)
    assert (declared["key"].shape, variables["key"].dtype) == ((), dtype)
    assert variables == jax.jit(declared.init)(KEY)
    np.testing.assert_array_equal(
        model(js.Scope(variables)), jax.random.normal(variables["key"], (3,))
    )


# A model that needs values.


def masked(scope, x):
    return x[x > 0]


NEEDS = {
    "int": lambda scope, x: int(x.sum()),
    "if": lambda scope, x: scope if x.sum() > 0 else x,
    "numpy": lambda scope, x: np.asarray(x),
    "range": lambda scope, x: list(range(x[0, 0].astype(int))),
    "shape": lambda scope, x: jnp.zeros((x[0, 0].astype(int),)),
    "arange": lambda scope, x: jnp.arange(x.sum()),
    "unique": lambda scope, x: jnp.unique(x),
    "item": lambda scope, x: x[0, 0].item(),
    "device": lambda scope, x: x.block_until_ready(),
}


@pytest.mark.parametrize("make", [js.declare, js.init], ids=["declare", "init"])
@pytest.mark.parametrize("need", NEEDS)
def test_a_model_that_needs_a_value_is_told_its_argument_and_inline(need, make):
    model = NEEDS[need]
    with pytest.raises(js.ConcreteValueError) as caught:
        make(model)(*([KEY] if make is js.init else []), X)
    text, line = str(caught.value), model.__code__.co_firstlineno
    assert f"<lambda> at {__file__}:{line} needs the value of x, at\n" in text
    assert text.splitlines()[1].startswith(f"  {__file__}:{line}, in ")
    assert "js.init(<lambda>, inline=True)(key, ...)" in text
    assert isinstance(caught.value, TypeError)
    assert caught.value.__cause__ is not None
    assert "jscope/_declare.py" not in text + str(caught.value.__cause__)
    # With the line that is offered, the model runs.
    js.init(model, inline=True)(KEY, X)


def test_a_boolean_index_is_told_likewise():
    with pytest.raises(js.ConcreteValueError, match=r"masked at .* needs the value of some") as e:
        js.declare(masked)(X)
    assert isinstance(e.value, IndexError)
    assert isinstance(e.value.__cause__, jax.errors.NonConcreteBooleanIndexError)


def test_the_argument_that_is_needed_is_named_as_the_caller_named_it():
    def model(scope, batch, *rest, scale):
        return [int(batch["n"]), int(rest[1].sum()), int(scale)]

    n, batch = jnp.int32(2), {"n": 1}
    for name, args, scale in [
        ("batch['n']", ({"n": n},), 1),
        ("rest[1]", (batch, 0, X), 1),
        ("scale", (batch, 0, np.float32(1)), n),
    ]:
        with pytest.raises(js.ConcreteValueError) as caught:
            js.declare(model)(*args, scale=scale)
        assert f"needs the value of {name}, at" in str(caught.value)

    def keyword(scope, *, fun, **options):  # "fun" is also the name of an argument of JAX's
        return int(fun + options["more"][0])

    with pytest.raises(js.ConcreteValueError, match=r"needs the value of fun and more\[0\], at"):
        js.declare(keyword)(fun=n, more=[n])


def test_values_of_variables_and_random_keys_are_needed_in_vain_too():
    def variables(scope):
        return float(scope.get_variable("w", ()))

    def keys(scope):
        return float(jax.random.uniform(scope.rng("noise")))

    for model in (variables, keys):
        with pytest.raises(js.ConcreteValueError, match="the value of something that it computes"):
            js.declare(model)()
        js.init(model, inline=True)(KEY)


def test_a_value_that_the_body_of_a_transform_needs_is_jaxs_error():
    """With ``inline=True`` it would be needed in vain as well."""

    def model(scope, x):
        return jax.jit(lambda y: int(y.sum()))(x)

    with pytest.raises(jax.errors.ConcretizationTypeError, match="of the argument y") as caught:
        js.declare(model)(X)
    assert not isinstance(caught.value, js.JscopeError)


def test_errors_of_the_models_own_stay_what_they_are():
    for error in (TypeError("mine"), IndexError("mine"), AttributeError("mine")):

        def model(scope, error=error):
            raise error

        with pytest.raises(type(error), match="mine") as caught:
            js.declare(model)()
        assert caught.value is error


def test_a_model_may_be_any_callable_and_its_arguments_may_share_a_key():
    @jax.tree_util.register_pytree_with_keys_class
    class Twins:
        def __init__(self, *children):
            self.children = children

        def tree_flatten_with_keys(self):
            return [(jax.tree_util.DictKey("twin"), child) for child in self.children], None

        def tree_flatten(self):
            return self.children, None

        @classmethod
        def tree_unflatten(cls, _, children):
            return cls(*children)

    class Model:
        def __call__(self, scope, twins):
            return [scope.get_variable(f"w{i}", one.shape) for i, one in enumerate(twins.children)]

    for model in (Model(), functools.partial(Model()), Model().__call__):
        declared = js.declare(model)(Twins(X, jnp.ones(5)))
        assert [spec.shape for spec in declared.values()] == [(2, 3), (5,)]


# Variables without gradients.


def counting(scope, x, *, trainable=None):
    scope.get_variable("steps", (), jnp.int32, trainable=trainable)
    scope.get_variable("done", (2,), jnp.bool_, trainable=trainable)
    return (scope.get_variable("w", (3,)) * x).sum()


def test_split_warns_by_name_of_trainable_variables_that_have_no_gradient():
    declared = js.declare(counting)(X[0])
    variables = declared.init(KEY)
    with pytest.warns(js.TrainableWarning) as caught:
        params, state = declared.split(variables)
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith("'done' (bool), 'steps' (int32): trainable, as variables are by default")
    assert "scope.get_variable(name, shape, dtype, trainable=False)" in text
    assert warning.filename == __file__
    # No name moves: they are trainable, as in TF1.
    assert (set(params), set(state)) == ({"done", "steps", "w"}, set())

    def loss(params, *, trainable=None):
        return counting(js.Scope(params), X[0], trainable=trainable)

    with pytest.raises(TypeError, match="grad requires real- or complex-valued inputs"):
        jax.grad(loss)(params)
    np.testing.assert_allclose(jax.grad(loss, allow_int=True)(params)["w"], X[0])


def test_split_does_not_warn_of_state_nor_of_what_the_tree_lacks():
    state_too = js.declare(functools.partial(counting, trainable=False))(X[0])
    params, state = state_too.split(state_too.init(KEY))
    assert (list(params), list(state)) == (["w"], ["done", "steps"])
    declared = js.declare(counting)(X[0])
    assert list(declared.split({"w": X[0]})[0]) == ["w"]
