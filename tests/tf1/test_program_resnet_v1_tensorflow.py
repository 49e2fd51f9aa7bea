"""`examples/tf1/resnet_v1.py` is ResNet v1: against TensorFlow's program, from its values."""

import os

import jax
import numpy as np
import pytest

import jscope as js

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
pytest.importorskip("sklearn", reason="the extra 'examples' is not installed")

import tensorflow.compat.v1 as tf
from programs import assert_close, example, train_twin, values
from twins import resnet_v1 as twin

from jscope import tf1
from jscope.interop import tensorflow

resnet_v1 = example("resnet_v1")
BLOCKS = (resnet_v1.Block("block1", 2, 2, 2), resnet_v1.Block("block2", 3, 1, 1))
TINY = resnet_v1.Network(BLOCKS, classes=5)
RATE = 0.05
OPTIMIZER = resnet_v1.optimizer_for(RATE)


@pytest.fixture(scope="module", autouse=True)
def jax_defaults():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def batch(step):
    random = np.random.default_rng(step)
    return {
        "images": random.normal(size=(8, 17, 17, 2)).astype(np.float32),
        "labels": random.integers(0, 5, 8).astype(np.int32),
    }


def graph(data):
    logits = twin.resnet_v1(data["images"], BLOCKS, 5, training=True)
    return twin.train_op(twin.loss_of(logits, data["labels"]), RATE)


def train_ours(start, steps, path):
    training = tf1.train.restore(TINY.declare(batch(0)["images"]), start, OPTIMIZER)
    for _ in range(steps):
        data = batch(int(training.global_step))
        training = resnet_v1.train_step(training, data["images"], data["labels"], TINY, OPTIMIZER)
    return tf1.train.save(training, path, OPTIMIZER)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """TensorFlow's checkpoints; gains and biases too begin at random."""
    return train_twin(graph, batch, None, (0, 5, 10), tmp_path_factory.mktemp("resnet"))


def restored(path):
    declared = TINY.declare(batch(0)["images"])
    maps = {"resnet_v1/": "resnet_v1/"}
    return tensorflow.restore(declared, path, maps, drop=tensorflow.SLOTS)[0]


def test_variables_have_the_names_shapes_and_order_of_slim_s_checkpoints():
    with tf.Graph().as_default():
        twin.resnet_v1(tf.constant(batch(0)["images"]), BLOCKS, 5, training=True)
        theirs = [(v.op.name, tuple(v.shape), v.trainable) for v in tf.global_variables()]
        losses = [loss.op.name for loss in tf.losses.get_regularization_losses()]
    declared = TINY.declare(batch(0)["images"])
    assert [(n, s.shape, s.trainable) for n, s in declared.items()] == theirs
    regularized = [name for name, spec in declared.items() if spec.regularizer is not None]
    assert [loss.split("/Regularizer/")[0] for loss in losses] == regularized
    assert all(name.endswith("/weights") for name in regularized)


def test_resnet_50_has_the_published_number_of_variables_and_parameters():
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    declared = resnet_v1.Network(resnet_v1.RESNET_50, 1000).declare(images)
    sizes = {name: int(np.prod(declared[name].shape)) for name in declared.trainable}
    assert sum(sizes.values()) == 25_557_032
    assert declared["resnet_v1/block4/unit_3/bottleneck_v1/conv2/weights"].shape == (3, 3, 512, 512)
    assert declared["resnet_v1/logits/weights"].shape == (1, 1, 2048, 1000)


@pytest.mark.parametrize("training", [True, False])
def test_logits_loss_gradients_and_statistics_are_tensorflow_s(theirs, training):
    data = batch(7)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = twin.resnet_v1(tf.constant(data["images"]), BLOCKS, 5, training)
        loss = twin.loss_of(logits, data["labels"])
        variables = tf.trainable_variables()
        grads = tf.gradients(loss, variables)
        tf.train.Saver().restore(session, theirs[5])
        expected = session.run([logits, loss])
        their_grads = dict(zip((v.op.name for v in variables), session.run(grads)))
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        moved = {v.op.name: session.run(v) for v in tf.global_variables() if not v.trainable}
    declared = TINY.declare(data["images"])
    params, state = declared.split(restored(theirs[5]))

    @jax.jit
    def run(params):
        def loss_of(params):
            network = js.with_updates(TINY)
            logits, updates = network(params | state, data["images"], training=training)
            log = jax.nn.log_softmax(logits)[np.arange(8), data["labels"]]
            return declared.regularization_loss(params) - log.mean(), (logits, updates)

        return jax.value_and_grad(loss_of, has_aux=True)(params)

    (loss, (logits, updates)), our_grads = run(params)
    np.testing.assert_allclose(logits, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loss, expected[1], rtol=1e-5)
    assert_close(our_grads, their_grads, 1e-5)
    assert_close(state | updates, moved, 1e-5)
    assert bool(updates) == training


def test_ten_steps_give_tensorflow_s_values_and_slots(theirs, tmp_path):
    ours = train_ours(theirs[0], 10, str(tmp_path / "ours"))
    assert_close(values(ours), values(theirs[10]), 1e-4)


def test_training_goes_on_where_tensorflow_stopped(theirs, tmp_path):
    assert np.any(values(theirs[5])["resnet_v1/conv1/weights/Momentum"])
    ours = train_ours(theirs[5], 5, str(tmp_path / "ours"))
    assert_close(values(ours), values(theirs[10]), 1e-4)


def test_tensorflow_trains_on_where_this_stopped(theirs, tmp_path):
    ours = train_ours(theirs[0], 5, str(tmp_path / "ours"))
    continued = train_twin(graph, batch, ours, [10], tmp_path)[10]
    assert_close(values(continued), values(theirs[10]), 1e-4)


def test_fine_tuning_takes_over_all_but_the_logits(theirs, capsys):
    images = batch(0)["images"]
    declared = resnet_v1.Network(BLOCKS, classes=7).declare(images)
    variables = resnet_v1.without_logits(declared, theirs[10], jax.random.key(0))
    with tf.Graph().as_default():
        twin.resnet_v1(tf.constant(images), BLOCKS, 7, training=True)
        kept = twin.variables_to_restore(exclude=["resnet_v1/logits"])
    assert capsys.readouterr().out == (
        f"{len(kept)} variables restored; new: resnet_v1/logits/biases, resnet_v1/logits/weights\n"
    )
    stored = values(theirs[10])
    assert_close(js.drop(variables, "resnet_v1/logits/*"), {n: stored[n] for n in kept}, 0)
    assert variables["resnet_v1/logits/weights"].shape == (1, 1, 24 // 2, 7)
