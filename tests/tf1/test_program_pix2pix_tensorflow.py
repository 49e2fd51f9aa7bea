"""`examples/tf1/pix2pix.py` is pix2pix: against TensorFlow's program, from its values."""

import dataclasses
import os
import re

import jax
import numpy as np
import pytest

import jscope as js

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow.compat.v1 as tf
from programs import assert_close, example, train_twin, values
from twins import pix2pix as twin

from jscope import tf1

pix2pix = example("pix2pix")
# Without dropout, whose masks are other ones in TensorFlow.
TINY = pix2pix.Sizes(ngf=2, ndf=3, encoders=(1, 2, 3), dropout=(), halvings=2)
RATE = 2e-4
CHANNELS = 2


@pytest.fixture(scope="module", autouse=True)
def jax_defaults():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def batch(step):
    random = np.random.default_rng(step)
    return {
        "inputs": random.uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32),
        "targets": random.uniform(-1, 1, (4, 16, 16, CHANNELS)).astype(np.float32),
    }


def graph(data):
    return twin.train_op(twin.model(data["inputs"], data["targets"], TINY)[1], RATE)


def declare(sizes, inputs, targets):
    return js.declare(pix2pix.losses_of)(inputs, targets, sizes)


def restored(path):
    return pix2pix.restore(declare(TINY, **batch(0)), path)


def train_ours(start, steps, path):
    training, key = restored(start), jax.random.key(0)
    for _ in range(steps):
        data = batch(int(training.global_step))
        training = pix2pix.train_step(training, data["inputs"], data["targets"], TINY, key)
    return tf1.train.save(training, path, pix2pix.OPTIMIZERS)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """TensorFlow's checkpoints; gains and biases too begin at random."""
    return train_twin(graph, batch, None, (0, 5, 10), tmp_path_factory.mktemp("pix2pix"))


def before_norms(names):
    """The biases that batch norm takes off again: in exact arithmetic their gradient is zero."""
    normed = {name.rsplit("/", 2)[0] for name in names if name.endswith("gamma")}
    return {n for n in names if n.endswith("/bias") and n.rsplit("/", 2)[0] in normed}


def assert_trained_alike(ours, theirs, start):
    """Equal, but for biases whose gradients are rounding errors; Adam makes whole steps of them."""
    ours, theirs, start = values(ours), values(theirs), values(start)
    noisy = before_norms(theirs)
    steps = int(theirs["global_step"]) - int(start["global_step"])
    for tree in (ours, theirs):
        assert max(np.abs(tree[name] - start[name]).max() for name in noisy) < 2 * steps * RATE
    assert sorted(ours) == sorted(theirs)
    # Rates are small: 1e-4 is a tenth of what ten steps can change, and would not tell a
    # generator's step of the new discriminator, which is 7e-5 off, from one of the old.
    assert_close(
        {name: value for name, value in ours.items() if name not in noisy},
        {name: value for name, value in theirs.items() if name not in noisy},
        1e-5,
    )


@pytest.mark.parametrize("sizes", [TINY, pix2pix.Sizes()], ids=["tiny", "published"])
def test_variables_have_the_names_shapes_and_order_of_tensorflow_s_program(sizes):
    size = 256 if sizes.ngf == 64 else 16
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    with tf.Graph().as_default():
        twin.model(*(tf.placeholder(tf.float32, image.shape) for _ in range(2)), sizes)
        theirs = [(v.op.name, tuple(v.shape), v.trainable) for v in tf.global_variables()]
    declared = declare(sizes, image, image)
    assert [(n, s.shape, s.trainable) for n, s in declared.items()] == theirs
    if sizes.ngf == 64:
        assert declared["generator/encoder_8/conv2d/kernel"].shape == (4, 4, 512, 512)
        assert declared["generator/decoder_7/conv2d_transpose/kernel"].shape == (4, 4, 512, 1024)
        assert declared["discriminator/layer_5/conv2d/kernel"].shape == (4, 4, 512, 1)


def test_outputs_losses_and_gradients_are_tensorflow_s(theirs):
    data = batch(7)
    with tf.Graph().as_default(), tf.Session() as session:
        outputs, losses = twin.model(*map(tf.constant, data.values()), TINY)
        objectives = {"discriminator": losses[0], "generator": twin.generator_loss(*losses[1:])}
        their_grads = {
            key: {v.op.name: g for v, g in zip(variables, tf.gradients(objective, variables))}
            for key, objective in objectives.items()
            for variables in [twin.variables_of(key)]
        }
        tf.train.Saver().restore(session, theirs[5])
        names = [loss.op.name for loss in losses]
        expected, losses, their_grads = session.run([outputs, losses, their_grads])
    training = restored(theirs[5])

    @jax.jit
    def run(training):
        scope = js.Scope(training.params, training.state)
        made = pix2pix.generate(scope, data["inputs"], CHANNELS, TINY)
        found = {
            key: pix2pix.gradients_of(key, training, **data, sizes=TINY)
            for key in pix2pix.OBJECTIVES
        }
        return made, found

    made, found = run(training)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    for key, (grads, ours) in found.items():
        assert_close(ours, dict(zip(names, losses)), 1e-5)
        assert_close(grads, their_grads[key], 1e-5)
        assert sum(np.abs(grads[name]).max() > 0.01 for name in grads) > len(grads) / 3


def test_ten_steps_give_tensorflow_s_values_slots_and_averages(theirs, tmp_path):
    ours = train_ours(theirs[0], 10, str(tmp_path / "ours"))
    assert_trained_alike(ours, theirs[10], theirs[0])
    stored, begin = values(ours), values(theirs[0])
    averages = [name for name in stored if name.endswith("/ExponentialMovingAverage")]
    assert averages == [
        "discriminator_loss/Mean/ExponentialMovingAverage",
        "generator_loss/Mean/ExponentialMovingAverage",
        "generator_loss/Mean_1/ExponentialMovingAverage",
    ]
    assert all(begin[name] == 0 != stored[name] for name in averages)
    for key in ("discriminator", "generator"):
        assert stored[f"{key}_train/beta1_power"] == pytest.approx(0.5**11)
    assert np.any(stored["discriminator/layer_2/conv2d/kernel/Adam"])
    assert np.any(stored["generator/decoder_2/batch_normalization/gamma/Adam_1"])
    moved = [name for name in stored if "/moving_" in name and np.any(stored[name] != begin[name])]
    assert not moved


def test_a_new_training_state_has_the_names_of_tensorflow_s_checkpoint(theirs, tmp_path):
    new = pix2pix.begin(declare(TINY, **batch(0)), jax.random.key(0))
    path = tf1.train.save(new, str(tmp_path / "new"), pix2pix.OPTIMIZERS)
    ours, stored = values(path), values(theirs[0])
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in stored.items()}
    same = [n for n in stored if not n.endswith(("kernel", "bias", "gamma", "beta"))]
    assert len(same) > len(stored) / 2
    assert_close({n: ours[n] for n in same}, {n: stored[n] for n in same}, 0)


def test_training_goes_on_where_tensorflow_stopped(theirs, tmp_path):
    assert np.any(values(theirs[5])["generator/encoder_1/conv2d/kernel/Adam"])
    ours = train_ours(theirs[5], 5, str(tmp_path / "ours"))
    assert_trained_alike(ours, theirs[10], theirs[5])


def test_tensorflow_trains_on_where_this_stopped(theirs, tmp_path):
    ours = train_ours(theirs[0], 5, str(tmp_path / "ours"))
    continued = train_twin(graph, batch, ours, [10], tmp_path)[10]
    assert_trained_alike(continued, theirs[10], theirs[0])


def test_dropout_has_another_mask_for_each_key_and_the_same_for_both_losses(theirs):
    sizes, training = dataclasses.replace(TINY, dropout=(0.5,)), restored(theirs[5])

    @jax.jit
    def losses(rng):
        return [
            pix2pix.gradients_of(key, training, **batch(0), sizes=sizes, rng=rng)[1]
            for key in pix2pix.OBJECTIVES
        ]

    first, again = losses(jax.random.key(0))
    assert_close(first, again, 0)
    other, _ = losses(jax.random.key(1))
    assert all(other[name] != first[name] for name in first)


def test_what_both_objectives_share_is_computed_once(theirs):
    training, data, key = restored(theirs[0]), batch(0), jax.random.key(0)
    lowered = pix2pix.train_step.lower(training, **data, sizes=TINY, rng=key)
    made, judged = 2 * len(TINY.encoders), TINY.halvings + 2  # the layers of each network
    forward = made + 2 * judged
    # Gradients of each kernel, and of each input but images: of the discriminator in both calls;
    # then through one call of it, and of the generator.
    backward = [2 * judged + 2 * (judged - 1), judged + made + made - 1]
    found = len(re.findall(r" convolution\(", lowered.compile().as_text()))
    assert found == forward + sum(backward)
