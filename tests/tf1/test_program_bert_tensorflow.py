"""`examples/tf1/bert.py` is BERT: against TensorFlow's program, from TensorFlow's values."""

import dataclasses
import functools
import os

import jax
import numpy as np
import pytest

import jscope as js

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow.compat.v1 as tf
from programs import assert_close, example, train_twin, values
from twins import bert as twin

from jscope import tf1
from jscope.interop import tensorflow

bert = example("bert")
TINY = bert.Config(
    vocab_size=31,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=13,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
CLASSES = 3


@pytest.fixture(scope="module", autouse=True)
def jax_defaults():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def batch(step):
    """Texts of several lengths, with one to three masked words."""
    random = np.random.default_rng(step)
    lengths = random.integers(6, 12, (4, 1))
    return {
        "input_ids": random.integers(0, 31, (4, 11)).astype(np.int32),
        "input_mask": (np.arange(11) < lengths).astype(np.int32),
        "segment_ids": (np.arange(11) > lengths // 2).astype(np.int32),
        "masked_lm_positions": random.integers(0, 6, (4, 3)).astype(np.int32),
        "masked_lm_ids": random.integers(0, 31, (4, 3)).astype(np.int32),
        "masked_lm_weights": np.float32(np.arange(3) < random.integers(1, 4, (4, 1))),
        "next_sentence_labels": random.integers(0, 2, 4).astype(np.int32),
        "label_ids": random.integers(0, CLASSES, 4).astype(np.int32),
    }


def constants(step):
    return {name: tf.constant(value) for name, value in batch(step).items()}


RATE, STEPS, WARMUP = 1e-2, 20, 4
OPTIMIZER = bert.optimizer_for(RATE, STEPS, WARMUP)
PRETRAINING_LOSS = functools.partial(bert.pretraining_loss, config=TINY, training=True)
CLASSIFIER_LOSS = functools.partial(
    bert.classifier_loss, config=TINY, classes=CLASSES, training=True
)


def pretraining_graph(data):
    return twin.train_op(twin.pretraining_loss(data, TINY), RATE, STEPS, WARMUP)


def classifier_graph(data):
    return twin.train_op(twin.classifier_loss(data, TINY, CLASSES), RATE, STEPS, WARMUP)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """TensorFlow's checkpoints of pretraining; biases and gains too begin at random."""
    return train_twin(pretraining_graph, batch, None, (0, 5, 10), tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def pretraining():
    return js.declare(bert.pretrain)(batch(0), TINY)


def test_variables_have_the_names_shapes_and_order_of_the_published_checkpoints(pretraining):
    with tf.Graph().as_default():
        twin.pretrain(constants(0), TINY)
        theirs = [(v.op.name, tuple(v.shape)) for v in tf.global_variables()]
    assert [(name, spec.shape) for name, spec in pretraining.items()] == theirs
    with tf.Graph().as_default():
        twin.classify(constants(0), TINY, CLASSES)
        theirs = [(v.op.name, tuple(v.shape)) for v in tf.global_variables()]
    classifier = js.declare(bert.classify)(batch(0), TINY, CLASSES)
    assert [(name, spec.shape) for name, spec in classifier.items()] == theirs

    base = js.declare(bert.pretrain)(batch(0), bert.Config())
    names = list(base)
    assert names[:9] == [
        "bert/embeddings/word_embeddings",
        "bert/embeddings/token_type_embeddings",
        "bert/embeddings/position_embeddings",
        "bert/embeddings/LayerNorm/beta",
        "bert/embeddings/LayerNorm/gamma",
        "bert/encoder/layer_0/attention/self/query/kernel",
        "bert/encoder/layer_0/attention/self/query/bias",
        "bert/encoder/layer_0/attention/self/key/kernel",
        "bert/encoder/layer_0/attention/self/key/bias",
    ]
    assert names[11:21] == [
        "bert/encoder/layer_0/attention/output/dense/kernel",
        "bert/encoder/layer_0/attention/output/dense/bias",
        "bert/encoder/layer_0/attention/output/LayerNorm/beta",
        "bert/encoder/layer_0/attention/output/LayerNorm/gamma",
        "bert/encoder/layer_0/intermediate/dense/kernel",
        "bert/encoder/layer_0/intermediate/dense/bias",
        "bert/encoder/layer_0/output/dense/kernel",
        "bert/encoder/layer_0/output/dense/bias",
        "bert/encoder/layer_0/output/LayerNorm/beta",
        "bert/encoder/layer_0/output/LayerNorm/gamma",
    ]
    assert names[-9:] == [
        "bert/pooler/dense/kernel",
        "bert/pooler/dense/bias",
        "cls/predictions/transform/dense/kernel",
        "cls/predictions/transform/dense/bias",
        "cls/predictions/transform/LayerNorm/beta",
        "cls/predictions/transform/LayerNorm/gamma",
        "cls/predictions/output_bias",
        "cls/seq_relationship/output_weights",
        "cls/seq_relationship/output_bias",
    ]
    assert base["cls/predictions/output_bias"].shape == (30522,)
    sizes = {name: int(np.prod(spec.shape)) for name, spec in base.items()}
    encoder = sum(size for name, size in sizes.items() if name.startswith("bert/"))
    assert encoder == 109_482_240  # the published number for BERT-Base, uncased


def test_logits_loss_and_gradients_are_tensorflow_s(theirs, pretraining):
    with tf.Graph().as_default(), tf.Session() as session:
        data = constants(7)
        logits = twin.pretrain(data, TINY)
        with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            loss = twin.pretraining_loss(data, TINY)
        variables = tf.trainable_variables()
        grads = tf.gradients(loss, variables)
        tf.train.Saver().restore(session, theirs[0])
        expected = session.run([*logits, loss])
        their_grads = dict(zip((v.op.name for v in variables), session.run(grads)))
    maps = {"bert/": "bert/", "cls/": "cls/"}
    params, _ = tensorflow.restore(pretraining, theirs[0], maps, drop=tensorflow.SLOTS)

    def loss_of(params):
        return bert.pretraining_loss(js.Scope(params), batch(7), TINY)

    ours = jax.jit(lambda params: bert.pretrain(js.Scope(params), batch(7), TINY))(params)
    loss, our_grads = jax.jit(jax.value_and_grad(loss_of))(params)
    for our, their in zip((*ours, loss), expected, strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-5)
    assert_close(our_grads, their_grads, 1e-5)


def train_ours(declared, loss, start, steps, path):
    training = tf1.train.restore(declared, start, OPTIMIZER)
    for _ in range(steps):
        data = batch(int(training.global_step))
        training, _ = bert.train_step(training, data, loss, OPTIMIZER, jax.random.key(0))
    return tf1.train.save(training, path, OPTIMIZER)


def test_ten_steps_give_tensorflow_s_values_and_slots(theirs, pretraining, tmp_path):
    ours = train_ours(pretraining, PRETRAINING_LOSS, theirs[0], 10, str(tmp_path / "ours"))
    assert_close(values(ours), values(theirs[10]), 1e-4)


def test_training_goes_on_where_tensorflow_stopped(theirs, pretraining, tmp_path):
    assert np.any(values(theirs[5])["bert/pooler/dense/kernel/adam_v"])
    ours = train_ours(pretraining, PRETRAINING_LOSS, theirs[5], 5, str(tmp_path / "ours"))
    assert_close(values(ours), values(theirs[10]), 1e-4)


def test_tensorflow_trains_on_where_this_stopped(theirs, pretraining, tmp_path):
    ours = train_ours(pretraining, PRETRAINING_LOSS, theirs[0], 5, str(tmp_path / "ours"))
    continued = train_twin(pretraining_graph, batch, ours, [10], tmp_path)[10]
    assert_close(values(continued), values(theirs[10]), 1e-4)


def test_a_classifier_begins_with_the_pretrained_encoder_and_is_trained_as_in_tensorflow(
    theirs, tmp_path, capsys
):
    declared = js.declare(bert.classify)(batch(0), TINY, CLASSES)
    params = bert.from_pretrained(declared, theirs[10], jax.random.key(0))
    assert capsys.readouterr().out == "39 variables restored; new: output_bias, output_weights\n"
    with tf.Graph().as_default():
        twin.classify(constants(0), TINY, CLASSES)
        mapped = twin.assignment_map(theirs[10])
    assert sorted(mapped) == [name for name in params if name.startswith("bert/")]
    stored = values(theirs[10])
    assert_close(js.select(params, "bert/**"), {name: stored[name] for name in mapped}, 0)
    assert not np.any(params["output_bias"])
    assert 0 < np.abs(params["output_weights"]).max() <= 2.5 * TINY.initializer_range

    start = tf1.train.save(bert.begin(params, OPTIMIZER), str(tmp_path / "start"), OPTIMIZER)
    ours = train_ours(declared, CLASSIFIER_LOSS, start, 6, str(tmp_path / "ours"))
    tuned = train_twin(classifier_graph, batch, start, [6], tmp_path)[6]
    assert_close(values(ours), values(tuned), 1e-4)


def test_the_rate_rises_and_falls_as_in_tensorflow_and_gains_and_biases_do_not_decay():
    """Zero gradients leave only decay: in a step a variable loses the rate times 1 %."""
    params = js.VarTree(
        {
            "bert/pooler/dense/kernel": np.float32([1.0]),
            "bert/pooler/dense/bias": np.float32([1.0]),
            "bert/embeddings/LayerNorm/gamma": np.float32([1.0]),
            "output_bias": np.float32([1.0]),
        }
    )
    optimizer = bert.optimizer_for(0.5, STEPS, WARMUP)
    update = jax.jit(optimizer.update)
    state, rates = optimizer.init(params), []
    for _ in range(STEPS + 2):
        updates, state = update(jax.tree.map(np.zeros_like, params), state, params)
        decay, others = js.partition(updates, "**/kernel")
        rates.append(-decay["bert/pooler/dense/kernel"][0] / 0.01)
        assert not any(np.any(x) for x in others.values())
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        rate = twin.learning_rate(0.5, STEPS, WARMUP)
        session.run(step.initializer)
        expected = []
        for _ in rates:
            expected.append(session.run(rate))
            session.run(step.assign_add(1))
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-7)
    assert max(expected) == expected[WARMUP]
    assert expected[0] == expected[-1] == 0


def test_dropout_has_another_mask_for_each_key_and_none_when_applied(theirs, pretraining):
    config = dataclasses.replace(TINY, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    maps = {"bert/": "bert/", "cls/": "cls/"}
    params, _ = tensorflow.restore(pretraining, theirs[0], maps, drop=tensorflow.SLOTS)

    @functools.partial(jax.jit, static_argnames="training")
    def loss(key, training):
        scope = js.Scope(params, rngs=key)
        return bert.pretraining_loss(scope, batch(0), config, training=training)

    first, second = jax.random.split(jax.random.key(1))
    assert loss(first, training=True) == loss(first, training=True) != loss(second, training=True)
    applied = loss(first, training=False)
    assert applied == loss(second, training=False) != loss(first, training=True)
    without = jax.jit(lambda tree: bert.pretraining_loss(js.Scope(tree), batch(0), TINY))(params)
    np.testing.assert_allclose(applied, without, rtol=1e-5)


def test_tensorflow_counts_rows_of_a_repeated_token_apart_in_a_norm():
    with tf.Graph().as_default(), tf.Session() as session:
        table, ids = tf.constant(np.ones((5, 2), np.float32)), tf.constant([3, 3, 1])
        gathered = tf.gradients(tf.gather(table, ids), table)
        one_hot = tf.gradients(twin.look_up(table, ids), table)
        norms = session.run([tf.global_norm(gathered), tf.global_norm(one_hot)])
    np.testing.assert_allclose(norms, np.sqrt([6, 10]), rtol=1e-6)
