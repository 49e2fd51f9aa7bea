"""Arguments of TF1 by their position: each function of TF1's name against TensorFlow's signature.

Where jscope has TF1's arguments they stand in TF1's order. What TF1 has and jscope lacks ends the
positions; what only jscope has comes by keyword alone, behind.
"""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import constraints, sharding, tf_checkpoint
from jscope import initializers as init

pytest.importorskip("tensorflow", reason="the reference needs tensorflow-cpu")
import tensorflow

tf = tensorflow.compat.v1

BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def positions(function, first=0):
    """The names of the arguments that can be passed by position, the first few left out."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in BY_POSITION][first:]


def getters():
    """What a custom getter gets as ``getter``, in either library."""
    seen = []

    def spy(getter, name, *args, **kwargs):
        seen.append(getter)
        return getter(name, *args, **kwargs)

    with tf.Graph().as_default():
        tf.get_variable("w", (2,), custom_getter=spy)
    js.declare(lambda scope: scope.get_variable("w", (2,), custom_getter=spy))()
    return seen


# TF1's arguments, all of them.
WHOLE = {
    "get_variable": (tf.get_variable, js.Scope.get_variable),
    "get_local_variable": (tf.get_local_variable, js.Scope.get_local_variable),
    "variable_scope": (tf.variable_scope, js.Scope.variable_scope),
    "variable_creator_scope": (tf.variable_creator_scope, js.Scope.variable_creator_scope),
}


@pytest.mark.parametrize("name", WHOLE)
def test_scopes_take_all_arguments_of_tf1_in_its_order(name):
    theirs, ours = WHOLE[name]
    assert positions(ours, 1) == positions(theirs)


def test_templates_take_all_arguments_of_tf1_in_its_order():
    assert positions(js.make_template) == positions(tf.make_template)


def test_what_a_custom_getter_gets_takes_tf1_s_arguments_in_its_order():
    theirs, ours = getters()
    assert positions(ours) == positions(theirs)


ASSIGN = [
    *("assign", "assign_add", "assign_sub", "count_up_to", "batch_scatter_update"),
    *(f"scatter_{how}" for how in ("update", "add", "sub", "mul", "div", "min", "max")),
    *(f"scatter_nd_{how}" for how in ("update", "add", "sub")),
]
INITIALIZERS = [
    *("constant", "random_uniform", "random_normal", "truncated_normal", "orthogonal"),
    *("uniform_unit_scaling", "variance_scaling"),
]
PARTITIONERS = [
    f"{how}_partitioner" for how in ("fixed_size", "variable_axis_size", "min_max_variable")
]
TRAIN = [
    *(f"{how}Optimizer" for how in ("GradientDescent", "Momentum", "Adam", "Adagrad")),
    *(f"{how}Optimizer" for how in ("RMSProp", "Adadelta", "Ftrl")),
    *(f"{how}_decay" for how in ("exponential", "natural_exp", "inverse_time", "polynomial")),
    *("cosine_decay", "piecewise_constant"),
]
CONSTRAINTS = {"UnitNorm": "unit_norm", "MaxNorm": "max_norm", "MinMaxNorm": "min_max_norm"}
CHECKPOINTS = ["latest_checkpoint", "list_variables", "load_variable"]
FOLLOWING = ["checkpoint_exists", "checkpoints_iterator"]

# TF's function and ours, and how many arguments of either's own come before what both have: TF's
# variable, our tree and name, our scope's self and name, our Saver's directory.
BEGINNING = {
    **{f"js.{name}": (getattr(tf, name), 1, getattr(js, name), 2) for name in ASSIGN},
    **{f"scope.{name}": (getattr(tf, name), 1, getattr(js.Scope, name), 2) for name in ASSIGN},
    **{n: (getattr(tf, f"{n}_initializer"), 0, getattr(init, n), 0) for n in INITIALIZERS},
    "identity": (tf.initializers.identity, 0, init.identity, 0),
    "range": (tf.range, 0, init.range, 0),
    "linspace": (tf.linspace, 0, init.linspace, 0),
    **{name: (getattr(tf, name), 0, getattr(sharding, name), 0) for name in PARTITIONERS},
    **{
        own: (getattr(tensorflow.keras.constraints, name), 0, getattr(constraints, own), 0)
        for name, own in CONSTRAINTS.items()
    },
    "get_collection": (tf.get_collection, 0, js.Declaration.collection, 1),
    "trainable_variables": (tf.trainable_variables, 0, js.Declaration.trainable_variables, 1),
    "loss": (tf.losses.get_regularization_loss, 0, js.Declaration.regularization_loss, 2),
    "losses": (tf.losses.get_regularization_losses, 0, js.Declaration.regularization_losses, 2),
    "averages": (tf.train.ExponentialMovingAverage, 0, js.ExponentialMovingAverage, 0),
    "Saver": (tf.train.Saver, 0, js.Saver, 1),
    **{n: (getattr(tf.train, n), 0, getattr(js.tf1.train, n), 0) for n in TRAIN},
    "clip_by_global_norm": (tf.clip_by_global_norm, 0, js.tf1.train.clip_by_global_norm, 0),
    "IndexedSlices": (tf.IndexedSlices, 0, js.tf1.train.IndexedSlices, 0),
    **{n: (getattr(tf.train, n), 0, getattr(js, n), 0) for n in CHECKPOINTS + FOLLOWING},
    **{
        f"tf_checkpoint.{name}": (getattr(tf.train, name), 0, getattr(tf_checkpoint, name), 0)
        for name in CHECKPOINTS
    },
}
# Where positions end though more of TF1's arguments are here: what TF1 has next, and jscope lacks.
ENDS_BEFORE = {
    "Saver": "name",
    "variable_axis_size_partitioner": "bytes_per_string_element",
}


@pytest.mark.parametrize("name", BEGINNING)
def test_arguments_of_tf1_stand_in_its_order_as_far_as_they_are_here(name):
    theirs, their_own, ours, our_own = BEGINNING[name]
    tfs, own = positions(theirs, their_own), positions(ours, our_own)
    assert own == tfs[: len(own)]
    keywords = [p for p in inspect.signature(ours).parameters if p not in positions(ours)]
    by_keyword_alone = [p for p in tfs[len(own) :] if p in keywords]
    ends = name in ENDS_BEFORE and tfs[len(own)] == ENDS_BEFORE[name]
    assert bool(by_keyword_alone) == ends


def test_every_argument_by_position_is_what_it_is_by_name():
    getter = lambda getter, *args, **kwargs: getter(*args, **kwargs)  # noqa: E731
    tenfold = lambda value: 10 * value  # noqa: E731
    spec_of = lambda name, shape, dtype: None  # noqa: E731

    def by_position(scope):
        a = scope.variable_scope(
            "a", None, None, init.ones, jnp.sum, None, spec_of, getter, None, "float16"
        )
        a.get_variable("v", (2,))
        a.get_variable(
            "w",
            (2,),
            "float32",
            init.zeros,
            jnp.max,
            True,
            ["foo"],
            None,
            spec_of,
            True,
            None,
            getter,
            tenfold,
        )
        a.get_local_variable(
            "n", (), "int32", None, None, True, ["foo"], None, None, True, None, getter, tenfold
        )

    def by_name(scope):
        a = scope.variable_scope(
            "a",
            initializer=init.ones,
            regularizer=jnp.sum,
            partitioner=spec_of,
            custom_getter=getter,
            dtype="float16",
        )
        a.get_variable("v", (2,))
        a.get_variable(
            "w",
            (2,),
            dtype="float32",
            initializer=init.zeros,
            regularizer=jnp.max,
            trainable=True,
            collections=["foo"],
            partitioner=spec_of,
            custom_getter=getter,
            constraint=tenfold,
        )
        a.get_local_variable(
            "n",
            (),
            dtype="int32",
            trainable=True,
            collections=["foo"],
            custom_getter=getter,
            constraint=tenfold,
        )

    first, second = js.declare(by_position)(), js.declare(by_name)()
    assert dict(first.items()) == dict(second.items())
    assert first["a/w"].constraint is tenfold
    assert first["a/v"].dtype == np.float16
    assert first["a/w"].collections == ("foo",)
