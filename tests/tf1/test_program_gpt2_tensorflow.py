"""`examples/tf1/gpt2.py` is GPT-2: against TensorFlow's program, from TensorFlow's values."""

import dataclasses
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow.compat.v1 as tf
from programs import assert_close, example, train_twin, values
from twins import gpt2 as twin

from jscope import tf1, tf_checkpoint
from jscope.interop import tensorflow

gpt2 = example("gpt2")
TINY = gpt2.Settings(n_vocab=23, n_ctx=12, n_embd=16, n_head=4, n_layer=2)
RATE = 1e-2
# A bias of keys has no gradient but for rounding, which with the default of 1e-8 Adam would
# divide by itself: a step of that variable would be noise, in both programs.
EPSILON = 1e-5
OPTIMIZER = tf1.train.AdamOptimizer(RATE, epsilon=EPSILON)


@pytest.fixture(scope="module", autouse=True)
def jax_defaults():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@jax.jit
def read(params, tokens, past, start):
    return gpt2.gpt2(js.Scope(params), tokens, TINY, past, start)


def batch(step):
    tokens = np.random.default_rng(step).integers(0, TINY.n_vocab, (4, 9))
    return {"tokens": tokens.astype(np.int32)}


def graph(data):
    loss = twin.loss_of(twin.gpt2(data["tokens"], TINY)[0], data["tokens"])
    return tf.train.AdamOptimizer(RATE, epsilon=EPSILON).minimize(loss, tf.train.get_global_step())


def train_ours(start, steps, path):
    training = tf1.train.restore(gpt2.declare(TINY), start, OPTIMIZER)
    for _ in range(steps):
        tokens = batch(int(training.global_step))["tokens"]
        training, _ = gpt2.train_step(training, tokens, OPTIMIZER, TINY)
    return tf1.train.save(training, path, OPTIMIZER)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """TensorFlow's checkpoints after 0, 5 and 10 steps; biases and gains too are random."""
    return train_twin(graph, batch, None, (0, 5, 10), tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def params(theirs):
    restored, _ = tensorflow.restore(
        gpt2.declare(TINY), theirs[0], {"model/": "model/"}, drop=tensorflow.SLOTS
    )
    return restored


def test_variables_have_the_names_shapes_and_order_of_the_published_checkpoints():
    with tf.Graph().as_default():
        twin.gpt2(tf.constant(batch(0)["tokens"]), TINY)
        theirs = [(v.op.name, tuple(v.shape)) for v in tf.global_variables()]
    assert [(name, spec.shape) for name, spec in gpt2.declare(TINY).items()] == theirs
    smallest = gpt2.declare(gpt2.Settings())
    assert list(smallest)[:14] == [
        "model/wpe",
        "model/wte",
        "model/h0/ln_1/g",
        "model/h0/ln_1/b",
        "model/h0/attn/c_attn/w",
        "model/h0/attn/c_attn/b",
        "model/h0/attn/c_proj/w",
        "model/h0/attn/c_proj/b",
        "model/h0/ln_2/g",
        "model/h0/ln_2/b",
        "model/h0/mlp/c_fc/w",
        "model/h0/mlp/c_fc/b",
        "model/h0/mlp/c_proj/w",
        "model/h0/mlp/c_proj/b",
    ]
    assert list(smallest)[-2:] == ["model/ln_f/g", "model/ln_f/b"]
    assert smallest["model/h11/attn/c_attn/w"].shape == (1, 768, 2304)
    assert smallest["model/h11/mlp/c_proj/w"].shape == (1, 3072, 768)
    assert len(smallest) == 148


@pytest.mark.parametrize(
    ("width", "layers", "heads", "parameters"),
    [
        (768, 12, 12, 124_439_808),
        (1024, 24, 16, 354_823_168),
        (1280, 36, 20, 774_030_080),
        (1600, 48, 25, 1_557_611_200),
    ],
)
def test_the_four_published_models_have_their_numbers_of_parameters(
    width, layers, heads, parameters
):
    declared = gpt2.declare(gpt2.Settings(n_embd=width, n_layer=layers, n_head=heads))
    assert sum(int(np.prod(spec.shape)) for spec in declared.values()) == parameters


def test_logits_cache_loss_and_gradients_are_tensorflow_s(theirs, params):
    tokens = batch(7)["tokens"]
    with tf.Graph().as_default(), tf.Session() as session:
        logits, past = twin.gpt2(tf.constant(tokens), TINY)
        loss = twin.loss_of(logits, tokens)
        variables = tf.trainable_variables()
        # Those of gathered rows are sparse; TensorFlow's own conversion makes them dense.
        grads = [tf.convert_to_tensor(g) for g in tf.gradients(loss, variables)]
        tf.train.Saver().restore(session, theirs[0])
        expected = session.run([logits, past, loss])
        their_grads = dict(zip((v.op.name for v in variables), session.run(grads)))
    ours = read(params, tokens, None, 0)
    loss_and_grads = jax.jit(jax.value_and_grad(gpt2.loss_of), static_argnums=2)
    loss, our_grads = loss_and_grads(params, tokens, TINY)
    for our, their in zip((*ours, loss), expected, strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-5)
    assert_close(our_grads, their_grads, 1e-5)
    assert all(np.any(g) for g in their_grads.values())


def test_text_read_through_the_cache_has_the_logits_of_text_read_at_once(params):
    tokens = batch(3)["tokens"]
    expected, _ = read(params, tokens, None, 0)
    _, past = read(params, np.pad(tokens[:, :4], [(0, 0), (0, 8)]), None, 0)
    for i, j in ((4, 5), (5, 8), (8, 9)):
        logits, past = read(params, tokens[:, i:j], past, i)
        np.testing.assert_allclose(logits, expected[:, i:j], rtol=1e-5, atol=1e-5)
        assert past.shape == (4, 2, 2, 4, 12, 4)


def test_greedy_text_is_that_of_tensorflow_and_of_the_uncached_model(theirs, params):
    prompt = batch(5)["tokens"][:, :3]
    with tf.Graph().as_default(), tf.Session() as session:
        text = twin.generate(tf.constant(prompt), 9, TINY, top_k=1)
        tf.train.Saver().restore(session, theirs[0])
        expected = session.run(text)
    padded = jnp.pad(prompt, [(0, 0), (0, 9)], constant_values=1)
    ours = gpt2.generate(params, padded, 3, 12, jax.random.key(0), TINY, top_k=1)
    np.testing.assert_array_equal(ours, expected)
    assert len(np.unique(expected[:, 3:])) > 3  # not one token again and again
    # A logit depends on no later token, so reading the whole text repeats every step at once.
    logits, _ = read(params, ours, None, 0)
    np.testing.assert_array_equal(ours[:, 3:], logits[:, 2:-1].argmax(-1))


def test_one_program_serves_all_lengths_and_what_is_not_generated_stays(params, monkeypatch):
    traces, model = [], gpt2.gpt2
    monkeypatch.setattr(gpt2, "gpt2", lambda *args: traces.append("one") or model(*args))
    gpt2.generate.clear_cache()
    tokens, key = jnp.asarray(np.resize(batch(2)["tokens"], (4, 12))), jax.random.key(0)
    for begin, end in ((1, 12), (3, 5), (7, 7), (8, 11)):
        text = gpt2.generate(params, tokens, begin, end, key, TINY, temperature=0.5 + begin)
        np.testing.assert_array_equal(text[:, :begin], tokens[:, :begin])
        np.testing.assert_array_equal(text[:, end:], tokens[:, end:])
    gpt2.generate.clear_cache()
    assert len(traces) == 2  # the prompt, and the body of the loop


@pytest.mark.parametrize("top_k", [0, 3])
def test_tokens_are_drawn_by_temperature_among_the_most_likely(top_k):
    logits = np.array([1.0, 0.2, 2.0, -1.0, 1.5], np.float32)
    rows = np.broadcast_to(logits, (20_000, 5))
    drawn = gpt2.sample(jnp.asarray(rows), jax.random.key(0), 0.7, top_k)
    weights = np.exp(logits / 0.7)
    if top_k:
        weights[[1, 3]] = 0
    frequencies = np.bincount(drawn, minlength=5) / 20_000
    np.testing.assert_allclose(frequencies, weights / weights.sum(), atol=0.015)
    assert not top_k or not frequencies[[1, 3]].any()


def test_ten_steps_give_tensorflow_s_values_and_slots(theirs, tmp_path):
    ours = train_ours(theirs[0], 10, str(tmp_path / "ours"))
    assert_close(values(ours), values(theirs[10]), 1e-4)


def test_training_goes_on_where_tensorflow_stopped(theirs, tmp_path):
    assert np.any(values(theirs[5])["model/h0/attn/c_attn/w/Adam"])
    ours = train_ours(theirs[5], 5, str(tmp_path / "ours"))
    assert_close(values(ours), values(theirs[10]), 1e-4)


def test_tensorflow_trains_on_where_this_stopped(theirs, tmp_path):
    ours = train_ours(theirs[0], 5, str(tmp_path / "ours"))
    continued = train_twin(graph, batch, ours, [10], tmp_path)[10]
    assert_close(values(continued), values(theirs[10]), 1e-4)


def test_a_published_checkpoint_is_continued_by_its_most_likely_tokens(theirs, params, capsys):
    """One in TensorFlow's format, beside its sizes, as they were published."""
    folder = Path(theirs[0]).parent / "published"
    folder.mkdir()
    (folder / "hparams.json").write_text(json.dumps(dataclasses.asdict(TINY)))
    model_only = {name: x for name, x in values(theirs[0]).items() if name in params}
    tf_checkpoint.write(str(folder / "model.ckpt"), model_only)
    gpt2.continue_published(str(folder), [3, 1, 4], 6)
    text = np.array([capsys.readouterr().out.split()], int)
    assert text[0, :3].tolist() == [3, 1, 4]
    logits, _ = read(params, text, None, 0)
    np.testing.assert_array_equal(text[:, 3:], logits[:, 2:-1].argmax(-1))
