"""Scopes against TensorFlow's own, in graph mode: names, reuse, errors, dtypes, losses.

Each program is written once, against the few verbs that both have, and run by both.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import regularizers

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tensorflow = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
tf = tensorflow.compat.v1


class TensorFlow:
    """A graph with TF's names for what `Jscope` does."""

    def __init__(self, use_resource):
        self.use_resource = use_resource
        self.reuse = {False: False, True: True, "auto": tf.AUTO_REUSE, None: None}

    def run(self, program):
        with tf.Graph().as_default() as graph:
            try:
                program(self, tf.get_variable_scope())
            finally:
                self.variables = {
                    v.op.name: (tuple(v.shape), v.dtype.base_dtype.name, v.trainable)
                    for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
                }
            loss = tf.losses.get_regularization_loss()
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                self.loss = session.run(loss)

    def scope(self, parent, name, reuse=None, **defaults):
        del parent  # TF's is the one that was entered last
        return tf.variable_scope(name, reuse=self.reuse[reuse], **self._named(defaults))

    def get(self, scope, name, *args, **kwargs):
        kwargs = self._named(kwargs)
        return tf.get_variable(name, *args, use_resource=self.use_resource, **kwargs)

    def _named(self, arguments):
        makers = {"ones": tf.ones_initializer(), "l2": lambda w: 0.5 * tf.nn.l2_loss(w)}
        makers["off"] = tf.no_regularizer
        return {k: makers.get(v, v) if isinstance(v, str) else v for k, v in arguments.items()}


class Jscope:
    """The same over a declaring scope."""

    def __init__(self):
        self.reuse = {False: False, True: True, "auto": js.AUTO_REUSE, None: None}

    def run(self, program):
        found = {}

        def model(scope):
            try:
                program(self, scope)
            finally:
                specs = scope._place.run.recorder("").specs()
                found.update({n: (s.shape, s.dtype.name, s.trainable) for n, s in specs.items()})

        try:
            declared = js.declare(model)()
        finally:
            self.variables = found
        self.loss = declared.regularization_loss(declared.init(jax.random.key(0)))

    def scope(self, parent, name, reuse=None, **defaults):
        return parent.variable_scope(name, reuse=self.reuse[reuse], **self._named(defaults))

    def get(self, scope, name, *args, **kwargs):
        return scope.get_variable(name, *args, **self._named(kwargs))

    def _named(self, arguments):
        makers = {"ones": js.initializers.ones, "l2": regularizers.l2(0.5)}
        makers["off"] = js.no_regularizer
        return {k: makers.get(v, v) if isinstance(v, str) else v for k, v in arguments.items()}


def names_in_order(lib, root):
    with lib.scope(root, "enc") as enc:
        lib.get(enc, "w", (2, 3))
        with lib.scope(enc, "layer_0") as layer:
            lib.get(layer, "kernel", [3, 4])
            lib.get(layer, "bias", 4)
        lib.get(enc, "b/w", ())
    with lib.scope(root, "a/b") as ab:
        lib.get(ab, "_x.y-z", (1,))
    lib.get(root, "step", (), dtype="int32", trainable=False)
    lib.get(root, "empty", (0, 3))


def dtypes_and_values(lib, root):
    lib.get(root, "int", initializer=3)
    lib.get(root, "float", initializer=2.5)
    lib.get(root, "array", initializer=np.ones((2, 2), np.float16))
    lib.get(root, "default", (2,))
    for dtype in ("float16", "int8", "uint8", "int32", "bool"):
        lib.get(root, f"of_{dtype}", (2,), dtype=dtype)
    with lib.scope(root, "half", dtype="float16") as half:
        lib.get(half, "w", (2,))
        lib.get(half, "own", (2,), dtype="float32")
        with lib.scope(half, "below") as below:
            lib.get(below, "w", (2,))
            lib.get(below, "int", initializer=3)


def shared_towers(lib, root):
    for tower in range(3):
        with lib.scope(root, "tower", reuse=tower > 0) as scope:
            lib.get(scope, "w", (2, 2))
            with lib.scope(scope, "in") as inside:
                lib.get(inside, "w", (2, 2))


def auto_reuse(lib, root):
    for size in (2, 2):
        with lib.scope(root, "m", reuse="auto") as m:
            lib.get(m, "w", (size,))
            with lib.scope(m, "sub", reuse=False) as sub:  # can't be undone
                lib.get(sub, "w", (size,))


def reuse_changes_between_true_and_auto(lib, root):
    with lib.scope(root, "a") as a:
        lib.get(a, "w", (2,))
    with lib.scope(root, "a", reuse=True) as a:
        lib.get(a, "w", (2,))
        with lib.scope(a, "b", reuse="auto") as b:
            lib.get(b, "new", (2,))


def ignored_on_reuse(lib, root):
    with lib.scope(root, "a") as a:
        lib.get(a, "w", (2,), initializer="ones", regularizer="l2")
    with lib.scope(root, "a", reuse=True) as a:
        lib.get(a, "w", (2,), regularizer="l2", trainable=False)
        lib.get(a, "w", (None,))
        lib.get(a, "w")


def regularizers_are_inherited(lib, root):
    with lib.scope(root, "a", regularizer="l2", initializer="ones") as a:
        lib.get(a, "w", (2, 2))
        lib.get(a, "free", (2, 2), regularizer="off")
        with lib.scope(a, "b") as b:
            lib.get(b, "w", (3,))
        with lib.scope(a, "c", regularizer="off") as c:
            lib.get(c, "w", (3,))


def twice(lib, root):
    lib.get(root, "w", (2,))
    lib.get(root, "w", (2,))


def twice_by_another_spelling(lib, root):
    with lib.scope(root, "a") as a:
        lib.get(a, "b/w", (2,))
        with lib.scope(a, "b") as b:
            lib.get(b, "w", (2,))


def missing_with_reuse(lib, root):
    with lib.scope(root, "a", reuse=True) as a:
        lib.get(a, "w", (2,))


def missing_with_inherited_reuse(lib, root):
    with lib.scope(root, "a", reuse=True) as a, lib.scope(a, "b", reuse=False) as b:
        lib.get(b, "w", (2,))


def true_below_auto_creates_nothing(lib, root):
    with lib.scope(root, "a", reuse="auto") as a, lib.scope(a, "b", reuse=True) as b:
        lib.get(b, "w", (2,))


def another_shape(lib, root):
    with lib.scope(root, "a", reuse="auto") as a:
        lib.get(a, "w", (1,))
        lib.get(a, "w", (2,))


def another_dtype(lib, root):
    with lib.scope(root, "a", reuse="auto") as a:
        lib.get(a, "w", (1,), dtype="float32")
        lib.get(a, "w", (1,), dtype="int32")


def shape_beside_a_value(lib, root):
    lib.get(root, "w", (2,), initializer=np.ones(2, np.float32))


def value_of_another_dtype(lib, root):
    lib.get(root, "w", initializer=3, dtype="float32")


def no_shape(lib, root):
    lib.get(root, "w")


def negative_dimension(lib, root):
    lib.get(root, "w", (2, -1))


def unknown_dimension(lib, root):
    lib.get(root, "w", (None, 2))


def complex_without_initializer(lib, root):
    lib.get(root, "w", (2,), dtype="complex64")


def illegal_name(lib, root):
    lib.get(root, "w w", (2,))


def underscore_at_the_root(lib, root):
    lib.get(root, "_w", (2,))


WORKING = [
    names_in_order,
    dtypes_and_values,
    shared_towers,
    auto_reuse,
    reuse_changes_between_true_and_auto,
    ignored_on_reuse,
    regularizers_are_inherited,
]
FAILING = {
    twice: "Variable w already exists, disallowed. Did you mean to set reuse=True or reuse=",
    twice_by_another_spelling: "Variable a/b/w already exists, disallowed.",
    missing_with_reuse: "Variable a/w does not exist, or was not created with",
    missing_with_inherited_reuse: "Variable a/b/w does not exist, or was not created with",
    true_below_auto_creates_nothing: "Variable a/b/w does not exist, or was not created with",
    another_shape: "Trying to share variable a/w, but specified shape (2,) and found shape (1,).",
    another_dtype: "Trying to share variable a/w, but specified dtype",
    shape_beside_a_value: "If initializer is a constant, do not specify shape.",
    value_of_another_dtype: "don't match.",
    no_shape: "`shape` argument must be specified",
    negative_dimension: "Dimension -1 must be >= 0",
    unknown_dimension: "fully defined",
    complex_without_initializer: "An initializer for variable w of",
    illegal_name: "'w w' is not a",
    underscore_at_the_root: "'_w' is not a",
}


@pytest.mark.parametrize("use_resource", [False, True], ids=["ref", "resource"])
@pytest.mark.parametrize("program", WORKING, ids=lambda p: p.__name__)
def test_names_shapes_dtypes_and_losses_are_tf_s(program, use_resource):
    theirs, ours = TensorFlow(use_resource), Jscope()
    theirs.run(program)
    ours.run(program)
    assert list(ours.variables) == list(theirs.variables)  # in order of creation
    assert ours.variables == theirs.variables
    np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-6)


@pytest.mark.parametrize("use_resource", [False, True], ids=["ref", "resource"])
@pytest.mark.parametrize(
    ("program", "text"), FAILING.items(), ids=lambda p: getattr(p, "__name__", "")
)
def test_errors_are_tf_s(program, text, use_resource):
    for lib in (TensorFlow(use_resource), Jscope()):
        with pytest.raises(ValueError) as caught:  # noqa: PT011  # its text is compared below
            lib.run(program)
        assert text in str(caught.value), type(lib)


# Where jscope differs on purpose: TF first.


def test_difference_a_dtype_that_nobody_named_is_not_checked():
    def program(lib, root):
        with lib.scope(root, "a", reuse="auto") as a:
            lib.get(a, "w", (2,), dtype="int32")
            lib.get(a, "w", (2,))

    with pytest.raises(ValueError, match="specified dtype float32 and found dtype int32"):
        TensorFlow(True).run(program)
    Jscope().run(program)


def test_difference_a_constant_initial_value_of_another_shape_is_an_error_when_sharing():
    def program(lib, root):
        with lib.scope(root, "a", reuse="auto") as a:
            lib.get(a, "w", (3,))
            lib.get(a, "w", initializer=np.ones(5, np.float32))

    TensorFlow(True).run(program)
    with pytest.raises(ValueError, match=r"specified shape \(5,\) and found shape \(3,\)"):
        Jscope().run(program)


def test_difference_names_are_case_sensitive():
    def program(lib, root):
        lib.get(root, "w", (1,))
        lib.get(root, "W", (1,))

    theirs, ours = TensorFlow(True), Jscope()
    theirs.run(program)
    ours.run(program)
    assert list(theirs.variables) == ["w", "W_1"]
    assert list(ours.variables) == ["w", "W"]


def test_difference_a_name_has_no_empty_component():
    def program(lib, root):
        with lib.scope(root, "a/") as a:
            lib.get(a, "w", (1,))

    theirs = TensorFlow(True)
    theirs.run(program)
    assert list(theirs.variables) == ["a//w"]
    with pytest.raises(ValueError, match=r"'a/' is not a legal name: it has a trailing '/'"):
        Jscope().run(program)


def test_difference_values_depend_on_the_name_not_on_the_order():
    def values(order):
        with tf.Graph().as_default():
            tf.set_random_seed(1)
            found = {name: tf.get_variable(name, (4,)) for name in order}
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                theirs = session.run(found)
        ours = js.init(lambda s: [s.get_variable(name, (4,)) for name in order])(jax.random.key(1))
        return theirs, ours

    (theirs, ours), (theirs_again, ours_again) = values("ab"), values("ba")
    np.testing.assert_array_equal(theirs["a"], theirs_again["b"])
    assert not np.array_equal(ours["a"], ours_again["b"])
    assert ours == ours_again
    assert ours["a"].dtype == jnp.float32
