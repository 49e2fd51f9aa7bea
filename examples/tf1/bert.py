"""BERT: pretraining, and a classifier that is fine-tuned from the pretrained values.

The model is that of *BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding* (Devlin et al., 2018). Names, shapes and the order of creation are those of Google's
checkpoints, for both heads of pretraining and for the classifier.

A small model learns from the text of Python's `help()`: to fill in masked words, and whether one
passage follows another. It is saved as TensorFlow's program saves it. A classifier takes the
pretrained values over by an assignment map and learns from which of three pages a passage comes.

Differences from a TF1 program:

* ``dropout`` in training needs a random key, ``js.Scope(params, rngs=key)``; without
  ``training=True`` nothing is random.
* The table of embeddings, which the decoder shares, is ``scope["bert/embeddings/word_embeddings"]``
  and not an attribute of a model object.
* The gradient of a look-up is dense here. TF1's is ``IndexedSlices``, and its
  ``clip_by_global_norm`` counts the rows of a repeated token separately, so that it clips more;
  with one-hot look-ups (as Google's program does on TPUs) TF1's norm is the gradient's, as here.
"""

import argparse
import collections
import functools
import itertools
import pydoc_data.topics
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

import jscope as js
from jscope import initializers as init
from jscope import layers, tf1
from jscope.interop import tensorflow
from jscope.tf1 import contrib

Batch = Mapping[str, Array]
Loss = Callable[[js.Scope, Batch], Array]


@dataclass(frozen=True)
class Config:
    """The contents of ``bert_config.json``; the default is BERT-Base, uncased."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02


# 1. The encoder.

gelu = functools.partial(jax.nn.gelu, approximate=True)


def normal(config: Config) -> init.truncated_normal:
    return init.truncated_normal(stddev=config.initializer_range)


def layer_norm(scope: js.Scope, x: Array) -> Array:
    return contrib.layer_norm(scope, x, begin_norm_axis=-1, scope="LayerNorm")


def add_and_norm(scope: js.Scope, y: Array, x: Array, config: Config, training: bool) -> Array:
    """The end of both halves of a layer: dense, dropout, the residual connection, norm."""
    y = layers.dense(scope / "dense", y, units=x.shape[-1])
    y = layers.dropout(scope, y, rate=config.hidden_dropout_prob, training=training)
    return layer_norm(scope, x + y)


def self_attention(
    scope: js.Scope, x: Array, mask: Array, config: Config, training: bool
) -> Float[Array, "batch time hidden"]:
    heads, width = config.num_attention_heads, x.shape[-1]
    query, key, value = (
        layers.dense(scope / name, x, units=width).reshape(*x.shape[:2], heads, -1)
        for name in ("query", "key", "value")
    )
    scores = jnp.einsum("bqhf,bkhf->bhqk", query, key) / np.sqrt(width // heads)
    weights = jax.nn.softmax(scores - 10_000.0 * (1 - mask[:, None, None, :]))
    rate = config.attention_probs_dropout_prob
    weights = layers.dropout(scope, weights, rate=rate, training=training)
    return jnp.einsum("bhqk,bkhf->bqhf", weights, value).reshape(x.shape)


def encoder_layer(scope: js.Scope, x: Array, mask: Array, config: Config, training: bool) -> Array:
    with scope.variable_scope("attention") as s:
        y = self_attention(s / "self", x, mask, config, training)
        x = add_and_norm(s / "output", y, x, config, training)
    y = layers.dense(
        scope / "intermediate/dense", x, units=config.intermediate_size, activation=gelu
    )
    return add_and_norm(scope / "output", y, x, config, training)


def embed(scope: js.Scope, ids: Array, segments: Array, config: Config, training: bool) -> Array:
    width = config.hidden_size
    words = scope.get_variable("word_embeddings", (config.vocab_size, width))
    types = scope.get_variable("token_type_embeddings", (config.type_vocab_size, width))
    positions = scope.get_variable("position_embeddings", (config.max_position_embeddings, width))
    x = words[ids] + types[segments] + positions[: ids.shape[1]]
    x = layer_norm(scope, x)
    return layers.dropout(scope, x, rate=config.hidden_dropout_prob, training=training)


def bert(
    scope: js.Scope, batch: Batch, config: Config, *, training: bool = False
) -> tuple[Float[Array, "batch time hidden"], Float[Array, "batch hidden"]]:
    """The encoded tokens, and the first of each text through the pooler."""
    with scope.variable_scope("bert", initializer=normal(config)) as s:
        mask = batch["input_mask"].astype(jnp.float32)
        x = embed(s / "embeddings", batch["input_ids"], batch["segment_ids"], config, training)
        for i in range(config.num_hidden_layers):
            x = encoder_layer(s / f"encoder/layer_{i}", x, mask, config, training)
        pooler = s / "pooler/dense"
        return x, layers.dense(pooler, x[:, 0], units=config.hidden_size, activation=jnp.tanh)


# 2. Pretraining.


def masked_words(
    scope: js.Scope, x: Array, positions: Int[Array, "batch masked"], config: Config
) -> Float[Array, "batch masked vocabulary"]:
    """The logits of the words at some positions, by the table of embeddings."""
    x = jnp.take_along_axis(x, positions[..., None], axis=1)
    with scope.variable_scope("cls/predictions", initializer=normal(config)) as s:
        x = layers.dense(s / "transform/dense", x, units=config.hidden_size, activation=gelu)
        x = layer_norm(s / "transform", x)
        bias = s.get_variable("output_bias", (config.vocab_size,), initializer=init.zeros)
    return x @ scope["bert/embeddings/word_embeddings"].T + bias


def of_classes(scope: js.Scope, x: Array, classes: int, config: Config) -> Array:
    """Logits by ``output_weights``, of shape (classes, hidden), and ``output_bias``."""
    shape = (classes, config.hidden_size)
    weights = scope.get_variable("output_weights", shape, initializer=normal(config))
    return x @ weights.T + scope.get_variable("output_bias", (classes,), initializer=init.zeros)


def pretrain(
    scope: js.Scope, batch: Batch, config: Config, *, training: bool = False
) -> tuple[Float[Array, "batch masked vocabulary"], Float[Array, "batch 2"]]:
    """The logits of the masked words, and of whether the second text follows the first."""
    x, pooled = bert(scope, batch, config, training=training)
    words = masked_words(scope, x, batch["masked_lm_positions"], config)
    return words, of_classes(scope / "cls/seq_relationship", pooled, 2, config)


def cross_entropy(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def pretraining_loss(
    scope: js.Scope, batch: Batch, config: Config, *, training: bool = False
) -> Float[Array, ""]:
    words, follows = pretrain(scope, batch, config, training=training)
    weights = batch["masked_lm_weights"]  # zero where there are fewer words than positions
    losses = cross_entropy(words, batch["masked_lm_ids"])
    masked = jnp.sum(weights * losses) / (jnp.sum(weights) + 1e-5)
    return masked + cross_entropy(follows, batch["next_sentence_labels"]).mean()


# 3. The classifier.


def classify(
    scope: js.Scope, batch: Batch, config: Config, classes: int, *, training: bool = False
) -> Float[Array, "batch classes"]:
    _, pooled = bert(scope, batch, config, training=training)
    pooled = layers.dropout(scope, pooled, rate=config.hidden_dropout_prob, training=training)
    return of_classes(scope, pooled, classes, config)


def classifier_loss(
    scope: js.Scope, batch: Batch, config: Config, classes: int, *, training: bool = False
) -> Float[Array, ""]:
    logits = classify(scope, batch, config, classes, training=training)
    return cross_entropy(logits, batch["label_ids"]).mean()


def from_pretrained(declared: js.Declaration, path: str, key: PRNGKeyArray) -> js.VarTree:
    """The encoder's values from a checkpoint of pretraining; the head is new.

    The map is what ``get_assignment_map_from_checkpoint`` finds by comparing all names.
    """
    params, report = tensorflow.restore(
        declared, path, {"bert/": "bert/"}, drop=tensorflow.SLOTS, key=key
    )
    print(f"{len(report.restored)} variables restored; new: {', '.join(report.initialized)}")
    return params


# 4. The optimizer.


def optimizer_for(rate: float, steps: int, warmup: int) -> tf1.train.Optimizer:
    """AdamW, whose rate rises for ``warmup`` steps and falls to zero at the last.

    Gains and biases are not decayed.
    """
    decay = tf1.train.polynomial_decay(rate, None, steps, end_learning_rate=0.0)

    def learning_rate(step: Array) -> Array:
        return jnp.where(step < warmup, rate * step / warmup, decay(step))

    return tf1.train.AdamWeightDecayOptimizer(
        learning_rate,
        weight_decay_rate=0.01,
        exclude_from_weight_decay=["LayerNorm", "layer_norm", "bias"],
    )


@functools.partial(jax.jit, static_argnames=("loss_of", "optimizer"))
def train_step(
    training: tf1.train.TrainingState,
    batch: Batch,
    loss_of: Loss,
    optimizer: tf1.train.Optimizer,
    key: PRNGKeyArray,
) -> tuple[tf1.train.TrainingState, Array]:
    """One step with clipped gradients; dropout has another key in each."""
    params, state, opt_state, global_step = training
    key = jax.random.fold_in(key, global_step)
    loss, grads = jax.value_and_grad(lambda p: loss_of(js.Scope(p, rngs=key), batch))(params)
    grads, _ = tf1.train.clip_by_global_norm(grads, 1.0)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    return tf1.train.TrainingState(params, state, opt_state, global_step + 1), loss


# 5. Passages of a text, as tokens.

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
LENGTH = 32  # of an input: [CLS] words [SEP] words [SEP]
PIECE = 12  # words of a passage
MASKED = 4  # words of an input that are hidden


def read_pages(vocabulary: int) -> list[np.ndarray]:
    """The pages of Python's `help()`, longest first, as numbers of words."""
    topics = pydoc_data.topics.topics.values()
    pages = [re.findall(r"\w+|[^\w\s]", topic.lower()) for topic in topics]
    counts = collections.Counter(itertools.chain(*pages))
    numbers = {word: i + 5 for i, (word, _) in enumerate(counts.most_common(vocabulary - 5))}
    pages.sort(key=len, reverse=True)
    return [np.array([numbers.get(word, UNKNOWN) for word in page]) for page in pages]


def inputs(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """Pairs of passages, each ``(batch, words)``; the second ones may have no words."""
    parts = [first, second] if second.shape[1] else [first]
    ids = [np.full((len(first), 1), CLS)]
    for part in parts:
        ids += [part, np.full((len(first), 1), SEP)]
    tokens = np.concatenate(ids, axis=1).astype(np.int32)
    padded = np.pad(tokens, [(0, 0), (0, LENGTH - tokens.shape[1])], constant_values=PAD)
    segments = np.arange(LENGTH) >= first.shape[1] + 2
    return {
        "input_ids": padded,
        "input_mask": (padded != PAD).astype(np.int32),
        "segment_ids": ((padded != PAD) & segments).astype(np.int32),
    }


def pretraining_batch(pages: list[np.ndarray], size: int, seed: int) -> dict[str, np.ndarray]:
    """Half of the second passages follow the first; some words of both are masked."""
    rng = np.random.default_rng(seed)
    whole = np.concatenate(pages)
    start, other = rng.integers(0, len(whole) - 2 * PIECE, (2, size, 1))
    follows = rng.integers(0, 2, (size, 1))
    words = np.arange(PIECE)
    second = np.where(follows == 0, start + PIECE, other)  # 0 is "it follows", as in TF1's program
    batch = inputs(whole[start + words], whole[second + words])
    # Neither [CLS] nor a [SEP]: passages are at 1 ... PIECE and from PIECE + 2.
    places = np.delete(np.arange(1, 2 * PIECE + 2), PIECE)
    positions = rng.permuted(np.tile(places, (size, 1)), axis=1)[:, :MASKED]
    labels = np.take_along_axis(batch["input_ids"], positions, axis=1)
    np.put_along_axis(batch["input_ids"], positions, MASK, axis=1)
    return batch | {
        "masked_lm_positions": positions.astype(np.int32),
        "masked_lm_ids": labels,
        "masked_lm_weights": np.ones((size, MASKED), np.float32),
        "next_sentence_labels": follows[:, 0].astype(np.int32),
    }


def passages(page: np.ndarray) -> np.ndarray:
    """A page cut up, (passages, words)."""
    return page[: len(page) // (2 * PIECE) * 2 * PIECE].reshape(-1, 2 * PIECE)


def classifier_batch(classes: list[np.ndarray], size: int, seed: int) -> dict[str, np.ndarray]:
    """Passages of several pages, and of which each is."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(classes), size)
    words = np.stack([rng.choice(classes[label]) for label in labels])
    return inputs(words, words[:, :0]) | {"label_ids": labels.astype(np.int32)}


# 6. The story.


def train(
    training: tf1.train.TrainingState,
    batch_of: Callable[[int], Batch],
    loss_of: Loss,
    optimizer: tf1.train.Optimizer,
    steps: int,
    key: PRNGKeyArray,
) -> tf1.train.TrainingState:
    for _ in range(steps):
        number = int(training.global_step)
        training, loss = train_step(training, batch_of(number), loss_of, optimizer, key)
        if number % 50 == 0:
            print(f"step {number:4d}  loss {loss:.3f}", flush=True)
    print(f"step {number:4d}  loss {loss:.3f}", flush=True)
    return training


def accuracy(logits: Array, labels: np.ndarray) -> float:
    return float(np.mean(logits.argmax(axis=-1) == labels))


def begin(params: js.VarTree, optimizer: tf1.train.Optimizer) -> tf1.train.TrainingState:
    zero = jnp.zeros((), jnp.int32)
    return tf1.train.TrainingState(params, js.VarTree(), optimizer.init(params), zero)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=150, help="of pretraining (default: 150)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    arguments = parser.parse_args()
    keys = jax.random.split(jax.random.key(arguments.seed), 4)
    config = Config(300, 64, 1, 4, 128, LENGTH, initializer_range=0.1)
    pages = read_pages(config.vocab_size)
    steps = arguments.steps

    print("Pretraining:")
    declared = js.declare(pretrain)(pretraining_batch(pages, 1, 0), config)
    optimizer = optimizer_for(1e-3, steps, steps // 10)
    training = train(
        begin(declared.init(keys[0]), optimizer),
        lambda step: pretraining_batch(pages, 64, step),
        functools.partial(pretraining_loss, config=config, training=True),
        optimizer,
        steps,
        keys[1],
    )

    batch = pretraining_batch(pages, 500, steps)
    words, _ = jax.jit(lambda params: pretrain(js.Scope(params), batch, config))(training.params)
    common = np.bincount(batch["masked_lm_ids"].ravel()).max() / batch["masked_lm_ids"].size
    print(f"Masked words filled in {accuracy(words, batch['masked_lm_ids']):.0%}", end="")
    print(f" (always the most common one: {common:.0%})")

    print("Fine-tuning, from which of three pages a passage comes:")
    cut = [passages(page) for page in pages[:3]]
    held_out = [page[::4] for page in cut]
    learn = [np.delete(page, np.s_[::4], axis=0) for page in cut]
    declared = js.declare(classify)(classifier_batch(learn, 1, 0), config, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = tf1.train.save(training, f"{folder}/bert_model.ckpt", optimizer)
        params = from_pretrained(declared, path, keys[2])
    optimizer = optimizer_for(1e-3, steps // 2, steps // 20)
    training = train(
        begin(params, optimizer),
        lambda step: classifier_batch(learn, 32, step),
        functools.partial(classifier_loss, config=config, classes=3, training=True),
        optimizer,
        steps // 2,
        keys[3],
    )
    batch = classifier_batch(held_out, 300, 0)
    logits = jax.jit(lambda params: classify(js.Scope(params), batch, config, 3))(training.params)
    print(f"Held-out accuracy {accuracy(logits, batch['label_ids']):.0%}")


if __name__ == "__main__":
    main()
