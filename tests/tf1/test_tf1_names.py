"""TF1's names that jscope doesn't have: the errors say what does their job, and that exists."""

import functools
import importlib
import inspect
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import initializers, regularizers, sharding, tf1, tf_checkpoint
from jscope._names.tf1 import _TABLES
from jscope.interop import tensorflow

CASES = [(module, name) for module, table in _TABLES.items() for name in table]
ROOTS = {
    "js": js,
    "jscope": js,
    "scope": js.Scope,
    "declared": js.Declaration,
    "layers": js.layers,
    "init": initializers,
    "initializers": initializers,
    "regularizers": regularizers,
    "sharding": sharding,
    "tf1": tf1,
    "contrib": tf1.contrib,
    "tensorflow": tensorflow,
    "tf_checkpoint": tf_checkpoint,
    "jax": jax,
    "jnp": jnp,
}


@pytest.mark.parametrize(("module", "name"), CASES)
def test_a_name_of_tf1_is_an_error_that_names_what_exists(module, name):
    with pytest.raises(AttributeError) as error:
        getattr(importlib.import_module(module), name)
    text = str(error.value)
    assert text.startswith(f"module {module!r} has no attribute {name!r}. What TF1 calls {name} ")
    instead = text.partition(" is here ")[2]
    for path in re.findall(r"(?<![\w.'])([a-z]\w*(?:\.\w+)+)", instead):
        root, *parts = path.split(".")
        if root not in ROOTS:
            assert root in ("x", "f", "np"), path
            continue
        found = ROOTS[root]
        for i, part in enumerate(parts):
            if part == "interop" or not hasattr(found, part):
                whole = ".".join(["jscope", *parts[: i + 1]])
                found = importlib.import_module(whole)
            else:
                found = getattr(found, part)


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        (js, "variable_scope", "scope.variable_scope(name, ...)"),
        (js, "glorot_uniform_initializer", "js.initializers.glorot_uniform(...)"),
        (initializers, "random_normal_initializer", "init.random_normal(mean, stddev)"),
        (initializers, "zeros_initializer", "init.zeros."),
        (initializers, "he_normal_initializer", "init.he_normal(...)"),
        (regularizers, "l2_regularizer", "regularizers.l2(...)"),
        (js.layers, "conv2d", "js.tf1.layers.conv2d"),
        (tensorflow, "init_from_checkpoint", "tensorflow.restore(declared, path"),
        (tf1, "variable_scope", "scope.variable_scope(name, ...)"),
        (tf1, "rnn", "js.tf1.layers.BasicLSTMCell and js.tf1.layers.dynamic_rnn"),
        (tf1.contrib, "rnn", "js.tf1.layers.BasicLSTMCell and js.tf1.layers.dynamic_rnn"),
        (tf1.layers, "rnn_cell", "js.tf1.layers.BasicLSTMCell"),
        (js.layers, "LSTMCell", "js.tf1.layers.LSTMCell"),
        (tf1.layers, "Dense", "tf1.layers.dense(scope, x, ..., name=name)"),
    ],
)
def test_what_porters_write_first(module, name, instead):
    with pytest.raises(AttributeError, match=re.escape(instead)):
        getattr(module, name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (js.layers, "nope"),
        (tf1.layers, "nope"),
        (tf1.contrib, "conv9d"),
        (tf1.train, "AdamOptimiser"),
        (regularizers, "l3"),
        (initializers, "zeroes"),
        (js.constraints, "max_norms"),
        (sharding, "nope"),
        (tf_checkpoint, "reed_state"),
    ],
)
def test_a_close_name_is_a_public_one(module, name):
    listed = dir(module)
    assert not {"jax", "jnp", "np", "math", "join", "Any", "TYPE_CHECKING"} & {*listed}
    assert not [each for each in listed if inspect.ismodule(getattr(module, each))]
    assert all(hasattr(module, each) for each in listed)
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'") as error:
        getattr(module, name)
    near = re.findall(r"Did you mean '(\w+)'", str(error.value))
    assert not {*near} - {*listed}


def test_methods_of_tf1_are_errors_that_name_what_exists():
    saver = js.Saver.__new__(js.Saver)
    scope = js.Scope({})
    for thing, name, instead in (
        (scope, "get_collection", "declared.collection(key, scope)"),
        (scope, "set_initializer", "scope.variable_scope(scope, initializer=...)"),
        (saver, "last_checkpoints", "saver.all_steps()"),
        (saver, "recover_last_checkpoints", "saver.all_steps()"),
    ):
        with pytest.raises(AttributeError, match=re.escape(instead)) as error:
            getattr(thing, name)
        assert f"What TF1 calls {name} is here " in str(error.value)
    with pytest.raises(AttributeError, match=r"^'Scope' object has no attribute 'nope'"):
        scope.nope  # noqa: B018


def test_modules_resolve_without_an_import_of_their_own():
    program = (
        "import jscope as js; js.interop.tensorflow.export; js.tf_checkpoint.open; js.tf1.layers"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_misspelled_name_has_the_usual_error_and_a_close_name():
    with pytest.raises(
        AttributeError, match=r"has no attribute 'delcare'\. Did you mean 'declare'\?"
    ):
        js.delcare  # noqa: B018
    with pytest.raises(AttributeError, match=r"module 'jscope' has no attribute 'qqqqq'$"):
        js.qqqqq  # noqa: B018
    assert not hasattr(js.layers, "__wrapped__")


# Initializers in TF1's form.


def of_tensorflow(shape, dtype=None, partition_info=None):
    del partition_info
    return np.full(shape, 2.0, dtype)


class Constant:
    def __call__(self, shape, dtype=None, partition_info=None):
        return np.full(shape, 3.0)


def declared(initializer):
    return js.declare(lambda scope: scope.get_variable("a/w", (2, 3), initializer=initializer))()


@pytest.mark.parametrize(
    "initializer",
    [
        of_tensorflow,
        Constant(),
        lambda shape, dtype: 0,
        lambda a, b, c: jnp.ones(a, b),
        lambda *args: jnp.ones(args[0]),
        functools.partial(lambda v, shape, dtype=None, partition_info=None: np.full(shape, v), 3.0),
    ],
)
def test_an_initializer_in_tf1s_form_is_refused_with_the_line_to_write(initializer):
    with pytest.raises(js.InitializerError) as error:
        declared(initializer)
    text = str(error.value)
    assert "Variable 'a/w'" in text
    assert "initializer=js.tf1.initializer(" in text


def test_an_initializer_that_takes_no_dtype_is_refused_where_it_is_declared():
    with pytest.raises(js.InitializerError, match=r"'a/w': .* but takes \(key, shape\)"):
        declared(lambda key, shape: jnp.ones(shape))


@pytest.mark.parametrize(
    "initializer",
    [
        lambda k, s, d: jnp.ones(s, d),
        lambda *args: jnp.ones(*args[1:]),
        lambda k, *args: jax.random.normal(k, *args),
        jax.jit(lambda k, s, d: jnp.ones(s, d), static_argnums=(1, 2)),
    ],
)
def test_initializers_with_names_of_their_own_are_accepted(initializer):
    assert declared(initializer).init(jax.random.key(0))["a/w"].shape == (2, 3)


def test_an_initializer_is_run_at_most_once_to_find_its_form():
    calls = []

    def model(scope):
        for i in range(5):

            def ones(k, s, d):
                calls.append(s)
                return jnp.ones(s, d)

            scope.get_variable(f"w_{i}", (2,), initializer=ones)

    js.declare(model)()
    assert calls == [(2,)]


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (of_tensorflow, 2),
        (Constant(), 3),
        (lambda shape: jnp.ones(shape), 1),
        (lambda a, b, c: jnp.ones(a, b), 1),
    ],
)
def test_an_initializer_in_tf1s_form_through_the_adapter(function, value):
    tree = declared(tf1.initializer(function)).init(jax.random.key(0))
    np.testing.assert_array_equal(tree["a/w"], np.full((2, 3), value, np.float32))
    assert tf1.initializer(function) == tf1.initializer(function)


def test_the_adapter_takes_functions_only():
    with pytest.raises(js.InitializerError, match="A value is an initializer as it is"):
        tf1.initializer(3)
    with pytest.raises(js.InitializerError, match="takes a random key first, as jscope's"):
        tf1.initializer(lambda key, shape, dtype: jnp.ones(shape, dtype))


def test_the_initializers_of_contrib_have_its_variances():
    for made, variance in (
        (tf1.contrib.variance_scaling_initializer(), 2 / 200),
        (tf1.contrib.variance_scaling_initializer(1.0, "FAN_AVG", uniform=True), 1 / 300),
        (tf1.contrib.xavier_initializer(), 1 / 300),
        (tf1.contrib.xavier_initializer(uniform=False), 1 / 300),
    ):
        value = made(jax.random.key(0), (200, 400), jnp.float32)
        np.testing.assert_allclose(np.var(value), variance, rtol=0.02)
    assert tf1.contrib.l2_regularizer(0.5) == regularizers.l2(0.5)
