"""GPT-2, with the variables of the published checkpoints and a cache of fixed size.

The model is that of *Language Models are Unsupervised Multitask Learners* (Radford et al., 2019).
Names, shapes and the order of creation are those of OpenAI's checkpoints, so that
``python examples/tf1/gpt2.py --checkpoint models/124M --tokens 15496 11 616 1438 318`` continues
the tokens with the published weights. Without arguments a small model of bytes is trained, saved
as TensorFlow's program saves it, restored and trained on, and continues a text.

**Where the port differs from a TF1 program.** TF1's loop passes on `past`, the keys and values
of the tokens read so far, which grows by one token with each iteration
(``tf.concat([past, present], axis=-2)``, ``shape_invariants`` with None). In JAX an array has
one shape, and each length would be another program to compile. To rewrite such a loop:

1. Allocate the cache at its final length; here it is what reading the padded prompt returns.
2. Write with `jax.lax.dynamic_update_slice` at the position of the token.
3. Mask by position: a query at position ``i`` sees the keys at ``j <= i``. What lies behind is
   padding, and each place is written before a query can see it.
4. Make the number of tokens an array, as the condition of `jax.lax.while_loop`.

One program then serves all lengths of prompts and of continuations.
"""

import argparse
import functools
import json
import pydoc_data.topics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

import jscope as js
from jscope import initializers as init
from jscope import tf1, tf_checkpoint
from jscope.interop import tensorflow

Tokens = Int[Array, "batch time"]
Cache = Float[Array, "batch layer 2 head time feature"]


@dataclass(frozen=True)
class Settings:
    """The contents of a checkpoint's ``hparams.json``; the default is the smallest model."""

    n_vocab: int = 50257
    n_ctx: int = 1024
    n_embd: int = 768
    n_head: int = 12
    n_layer: int = 12


# 1. The model.


def norm(scope: js.Scope, x: Array) -> Array:
    g = scope.get_variable("g", x.shape[-1:], initializer=init.ones)
    b = scope.get_variable("b", x.shape[-1:], initializer=init.zeros)
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.mean(centered**2, axis=-1, keepdims=True)
    return centered * jax.lax.rsqrt(variance + 1e-5) * g + b


def conv1d(scope: js.Scope, x: Array, features: int) -> Array:
    """A dense layer; the published kernels have the leading axis of a convolution of width 1."""
    normal = init.random_normal(stddev=0.02)
    w = scope.get_variable("w", (1, x.shape[-1], features), initializer=normal)
    b = scope.get_variable("b", (features,), initializer=init.zeros)
    return x @ w[0] + b


def attention(
    scope: js.Scope, x: Array, heads: int, past: Array | None, start: Array | int
) -> tuple[Array, Array]:
    """The result, and the keys and values: of these tokens, or ``past`` with these written in."""
    batch, count, width = x.shape
    qkv = conv1d(scope / "c_attn", x, 3 * width).reshape(batch, count, 3, heads, -1)
    query, key, value = jnp.moveaxis(qkv, (2, 3), (0, 2))  # each (batch, head, time, feature)
    present = jnp.stack([key, value], axis=1)
    if past is not None:
        present = jax.lax.dynamic_update_slice(past, present, (0, 0, 0, start, 0))
    key, value = present[:, 0], present[:, 1]
    scores = jnp.einsum("bhqf,bhkf->bhqk", query, key) / np.sqrt(width // heads)
    seen = jnp.arange(key.shape[2]) <= start + jnp.arange(count)[:, None]
    weights = jax.nn.softmax(jnp.where(seen, scores, -1e10))
    y = jnp.einsum("bhqk,bhkf->bqhf", weights, value).reshape(x.shape)
    return conv1d(scope / "c_proj", y, width), present


def mlp(scope: js.Scope, x: Array) -> Array:
    hidden = jax.nn.gelu(conv1d(scope / "c_fc", x, 4 * x.shape[-1]), approximate=True)
    return conv1d(scope / "c_proj", hidden, x.shape[-1])


def gpt2(
    scope: js.Scope,
    tokens: Tokens,
    settings: Settings,
    past: Cache | None = None,
    start: Array | int = 0,
) -> tuple[Float[Array, "batch time vocabulary"], Cache]:
    """The logits of each next token, and the cache.

    Args:
        scope: Where the variables ``model/...`` are.
        tokens: What to read.
        settings: The sizes.
        past: The cache that an earlier call returned; None if the text begins with these tokens.
        start: The position of the first of the tokens; how many are in the cache.
    """
    with scope.variable_scope("model") as s:
        positions = s.get_variable(
            "wpe",
            (settings.n_ctx, settings.n_embd),
            initializer=init.random_normal(stddev=0.01),
        )
        embeddings = s.get_variable(
            "wte",
            (settings.n_vocab, settings.n_embd),
            initializer=init.random_normal(stddev=0.02),
        )
        x = embeddings[tokens] + positions[start + jnp.arange(tokens.shape[1])]
        presents = []
        for i in range(settings.n_layer):
            layer, layer_past = s / f"h{i}", None if past is None else past[:, i]
            y, present = attention(
                layer / "attn", norm(layer / "ln_1", x), settings.n_head, layer_past, start
            )
            x = x + y
            x = x + mlp(layer / "mlp", norm(layer / "ln_2", x))
            presents.append(present)
        logits = norm(s / "ln_f", x) @ embeddings.T
        return logits, jnp.stack(presents, axis=1)


def declare(settings: Settings) -> js.Declaration:
    tokens = jax.ShapeDtypeStruct((1, settings.n_ctx), jnp.int32)
    return js.declare(gpt2)(tokens, settings)


# 2. Generation.


def sample(logits: Array, key: PRNGKeyArray, temperature: Array | float, top_k: int) -> Array:
    """One token for each row, among the ``top_k`` most likely; 0 is all."""
    logits = logits / temperature
    if top_k:
        least = jax.lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -1e10, logits)
    return jax.random.categorical(key, logits).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames=("settings", "top_k"))
def generate(
    params: js.VarTree,
    tokens: Tokens,
    begin: Array | int,
    end: Array | int,
    key: PRNGKeyArray,
    settings: Settings,
    temperature: Array | float = 1.0,
    top_k: int = 0,
) -> Tokens:
    """Replace ``tokens[:, begin:end]`` by a continuation of ``tokens[:, :begin]``.

    The length of ``tokens``, at most `Settings.n_ctx`, is that of the cache. Only it is part of
    the compiled program: ``begin``, at least 1, ``end`` and the temperature are arrays.
    """
    logits, past = gpt2(js.Scope(params), tokens, settings)

    def step(carry: tuple[Array, Tokens, Array, Cache]) -> tuple[Array, Tokens, Array, Cache]:
        i, tokens, logits, past = carry
        token = sample(logits, jax.random.fold_in(key, i), temperature, top_k)
        logits, past = gpt2(js.Scope(params), token[:, None], settings, past, i)
        return i + 1, tokens.at[:, i].set(token), logits[:, 0], past

    carry = jnp.asarray(begin, jnp.int32), tokens, logits[:, begin - 1], past
    return jax.lax.while_loop(lambda carry: carry[0] < end, step, carry)[1]


# 3. Training.


def loss_of(params: js.VarTree, tokens: Tokens, settings: Settings) -> Array:
    logits, _ = gpt2(js.Scope(params), tokens, settings)
    return optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:]).mean()


@functools.partial(jax.jit, static_argnames=("optimizer", "settings"))
def train_step(
    training: tf1.train.TrainingState,
    tokens: Tokens,
    optimizer: tf1.train.Optimizer,
    settings: Settings,
) -> tuple[tf1.train.TrainingState, Array]:
    """TF1's ``optimizer.minimize(loss, global_step)``."""
    params, state, opt_state, global_step = training
    loss, grads = jax.value_and_grad(loss_of)(params, tokens, settings)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    return tf1.train.TrainingState(params, state, opt_state, global_step + 1), loss


# 4. A model of bytes.


def read_text() -> np.ndarray:
    """The text of Python's `help()`, as bytes."""
    topics = pydoc_data.topics.topics
    text = "\n".join(topics[name] for name in sorted(topics))
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32)


def train(
    training: tf1.train.TrainingState,
    optimizer: tf1.train.Optimizer,
    settings: Settings,
    steps: int,
) -> tf1.train.TrainingState:
    """Some steps more. The number of a step says which pieces of the text it is given."""
    data = read_text()
    for _ in range(steps):
        number = int(training.global_step)
        rng = np.random.default_rng(number)
        starts = rng.integers(0, len(data) - settings.n_ctx, 16)
        tokens = np.stack([data[i : i + settings.n_ctx] for i in starts])
        training, loss = train_step(training, tokens, optimizer, settings)
        if number % 25 == 0:
            print(f"step {number:4d}  loss {loss:.3f}", flush=True)
    return training


def tell_story(steps: int, seed: int) -> None:
    """Train, save, restore, train on, and write."""
    settings = Settings(n_vocab=256, n_ctx=64, n_embd=64, n_head=4, n_layer=2)
    optimizer = tf1.train.AdamOptimizer(3e-3)
    declared = declare(settings)
    print(declared)
    params = declared.init(jax.random.key(seed))
    zero = jnp.zeros((), jnp.int32)
    training = tf1.train.TrainingState(params, js.VarTree(), optimizer.init(params), zero)
    with tempfile.TemporaryDirectory() as folder:
        training = train(training, optimizer, settings, steps)
        path = tf1.train.save(training, f"{folder}/model.ckpt", optimizer)
        print(
            f"Saved {len(tf_checkpoint.list_variables(path))} variables, Adam's slots among them."
        )
        training = tf1.train.restore(declared, path, optimizer)
        training = train(training, optimizer, settings, steps // 4)

    prompt = b"The "
    tokens = jnp.zeros((1, settings.n_ctx), jnp.int32).at[0, : len(prompt)].set(list(prompt))
    key = jax.random.key(seed)
    text = generate(
        training.params, tokens, len(prompt), settings.n_ctx, key, settings, 0.7, top_k=20
    )
    print(bytes(text[0].tolist()).decode(errors="replace"))


def continue_published(path: str, prompt: list[int], count: int) -> None:
    """The most likely continuation by a published checkpoint; words are numbers here."""
    settings = Settings(**json.loads(Path(path, "hparams.json").read_text()))
    params, _ = tensorflow.restore(declare(settings), path)
    tokens = jnp.array([prompt + [0] * count], jnp.int32)
    key, begin = jax.random.key(0), len(prompt)
    print(*generate(params, tokens, begin, begin + count, key, settings, top_k=1)[0].tolist())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200, help="of training (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    parser.add_argument("--checkpoint", help="a folder with a published model")
    parser.add_argument("--tokens", type=int, nargs="+", help="what it continues")
    parser.add_argument("--count", type=int, default=20, help="of new tokens (default: 20)")
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) != (arguments.tokens is None):
        parser.error("--checkpoint and --tokens go together")
    if arguments.checkpoint:
        continue_published(arguments.checkpoint, arguments.tokens, arguments.count)
    else:
        tell_story(arguments.steps, arguments.seed)


if __name__ == "__main__":
    main()
