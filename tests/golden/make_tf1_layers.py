"""Write what TensorFlow's own layers give: ``python tests/golden/make_tf1_layers.py FILE.npz``.

TensorFlow 2.21 has ``tf.layers`` and the RNN cells in ``tf-keras``, and contrib's in ``tf-slim``
1.1, which needs the names below. Neither is a dependency of jscope's tests: the results are kept in
``tests/golden/tf1_layers.npz``.

For each program of `tf1.layer_cases` there are: the names of its variables in order of creation,
with marks for those that are trainable and that are model variables; their values; inputs, outputs;
the gradients of a weighted sum of the outputs; what the variables are after ``UPDATE_OPS``.
"""

# ruff: noqa: E402 - the environment and some names are set before the imports

import os
import sys
import warnings
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.simplefilter("ignore")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tf1"))

import numpy as np
import tensorflow.compat.v1 as tf
import tf_keras.src.legacy_tf_layers
from layer_cases import CASES

tf.disable_v2_behavior()
sys.modules["tf_keras.legacy_tf_layers"] = tf_keras.src.legacy_tf_layers
for part in ("base", "core", "convolutional", "normalization", "pooling"):
    module = __import__(f"tf_keras.src.legacy_tf_layers.{part}", fromlist=["x"])
    sys.modules[f"tf_keras.legacy_tf_layers.{part}"] = module

from tensorflow.python.framework import ops

ops.Tensor = tf.Tensor  # which tf-slim 1.1 looks for

import tf_slim
from tf_slim.layers import layers as contrib


class Namespace:
    """``tf`` of the programs."""

    relu, tanh, float32 = staticmethod(tf.nn.relu), staticmethod(tf.tanh), tf.float32
    ones = tf.ones_initializer()

    def __getattr__(self, name):
        if name.startswith("contrib_"):
            return getattr(contrib, name.removeprefix("contrib_"))
        homes = (tf.layers, contrib, tf.nn)
        return next(getattr(home, name) for home in homes if hasattr(home, name))

    def cell(self, kind, /, *args, **kwargs):
        return getattr(tf.nn.rnn_cell, kind)(*args, **kwargs)

    def called(self, cell, *args):
        return cell(*args)

    def scope(self, *args, **kwargs):
        return tf.variable_scope(*args, **kwargs)

    def arg_scope(self, functions, **kwargs):
        if isinstance(functions, list):
            functions = [getattr(self, name) for name in functions]
        return tf_slim.arg_scope(functions, **kwargs)


def ported():
    """The function that `docs/from_tf1.md` ports."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "from_tf1.md").read_text()
    space = {}
    exec(page.partition("```tf1\n")[2].partition("```")[0], space)
    return lambda _, images: space["network"](images, 5, is_training=False)


def results(name, program, shapes):
    """What one program gives, by key."""
    random = np.random.RandomState(sum(map(ord, name)))
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = [random.normal(size=shape).astype(np.float32) for shape in shapes]
        fed = [tf.constant(x) for x in inputs]
        y = program(Namespace(), *fed)
        if not tf.is_tensor(y):  # outputs and states of RNNs
            y = tf.concat([tf.reshape(part, [-1]) for part in tf.nest.flatten(y)], 0)
        variables = tf.global_variables()
        trained, modelled = tf.trainable_variables(), tf.model_variables()
        weights = np.cos(np.arange(np.prod(y.shape.as_list()))).reshape(y.shape).astype(np.float32)
        gradients = tf.gradients(tf.reduce_sum(y * weights), fed + variables)
        gradients = [
            tf.zeros_like(v) if g is None else g
            for g, v in zip(gradients, fed + variables, strict=True)
        ]
        values = [
            np.abs(random.normal(size=v.shape.as_list())).astype(np.float32) * 0.5 + 0.1
            if "variance" in v.op.name or "gamma" in v.op.name
            else random.normal(size=v.shape.as_list()).astype(np.float32) * 0.5
            for v in variables
        ]
        for variable, value in zip(variables, values, strict=True):
            variable.load(value, session)
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        output, of_inputs = session.run([y, gradients])
        for variable, value in zip(variables, values, strict=True):
            variable.load(value, session)
        session.run([y, updates])  # those in place run with the output
        after = session.run(variables)
    found = {
        "names": np.array([v.op.name for v in variables]),
        "trainable": np.array([any(v is t for t in trained) for v in variables]),
        "model": np.array([any(v is t for t in modelled) for v in variables]),
        "output": output,
    }
    for key, arrays in (
        ("input", inputs),
        ("value", values),
        ("gradient", of_inputs),
        ("after", after),
    ):
        found |= {f"{key}_{i}": array for i, array in enumerate(arrays)}
    return {f"{name}/{key}": value for key, value in found.items()}


if __name__ == "__main__":
    every = {}
    for name, (program, shapes) in CASES.items():
        print(name)
        every |= results(name, program, shapes)
    every |= results("ported", ported(), [(2, 8, 8, 3)])
    np.savez_compressed(sys.argv[1], **every)
