"""A byte-level GPT on eight devices: a scanned stack, shardings by rules, and a cache.

The story, in the order in which `main` tells it:

1. **Text.** Python's own reference, which every Python carries for its `help()`.
2. **Model.** Attention blocks are one function; `scope.stacked` makes one variable with a leading
   axis of what a loop would make eight of, so that `jax.lax.scan` compiles one block. In training,
   `jax.checkpoint` recomputes each block in the backward pass, and dropout draws from the
   scope's random stream.
3. **Mesh.** Eight CPU devices, two by four. Rules by name say how variables are cut; each device
   computes the initial values of its own shard only. A plan says beforehand what each will hold.
4. **Training** on the mesh, and the first steps once more on a single device: dropout and all,
   the losses agree up to rounding.
5. **Generation**, byte by byte. The keys and values of what was read so far are variables of the
   decoding model; a call returns their updates. The cache must not change what is computed.
"""

import argparse
import functools
import os
import pydoc_data.topics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PRNGKeyArray

import jscope as js
from jscope import initializers as init
from jscope import layers

Tokens = Int[Array, "batch time"]
Logits = Float[Array, "batch time 256"]

BATCH = 16
LEARNING_RATE = 3e-3
COMPARED = 10  # steps that are made on a single device too


def last_axis(name: str, shape: tuple[int, ...], dtype: Any) -> P:
    """Kernels by columns, and the biases that go with them."""
    return P(*(None,) * (len(shape) - 1), "model")


# Each layer that widens is cut by columns, and the one that narrows again by rows, so that one
# sum over the devices closes the pair (Megatron-LM). What no rule picks is on every device.
RULES = [
    (["**/query/*", "**/key/*", "**/value/*", "**/up/*"], last_axis),
    (["**/output/kernel", "**/down/kernel", "tokens/embeddings"], P("model")),
]


# 1. Text.


def load() -> tuple[np.ndarray, np.ndarray]:
    """Bytes to learn from, and those held out."""
    text = "\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    data = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    return data[: -len(data) // 10], data[-len(data) // 10 :]


def batches(data: np.ndarray, context: int, seed: int) -> Iterator[np.ndarray]:
    """Random pieces of the text, each one byte longer than the context; without end."""
    rng = np.random.default_rng(seed)
    while True:
        starts = rng.integers(0, len(data) - context, BATCH)
        yield np.stack([data[i : i + context + 1] for i in starts])


# 2. The model.


@dataclass(frozen=True)
class GPT:
    """A decoder of bytes; settings are static, and say nothing about variables' names."""

    width: int = 128
    depth: int = 4
    heads: int = 4
    context: int = 64
    rate: float = 0.1

    def block(self, scope: js.Scope, x: Array, *, training: bool, decoding: bool) -> Array:
        size = self.width // self.heads
        y = layers.multi_head_attention(
            scope / "attention",
            layers.layer_norm(scope / "norm_1", x),
            num_heads=self.heads,
            head_size=size,
            is_causal=True,
            cache_length=self.context if decoding else None,
        )
        x = x + layers.dropout(scope / "attention", y, rate=self.rate, training=training)
        y = layers.layer_norm(scope / "norm_2", x)
        y = layers.dense(scope / "up", y, units=4 * self.width, activation=jax.nn.gelu)
        y = layers.dense(scope / "down", y, units=self.width)
        return x + layers.dropout(scope / "down", y, rate=self.rate, training=training)

    def embed(self, scope: js.Scope, tokens: Tokens, start: Array | int) -> Array:
        place = scope.get_variable(
            "positions", (self.context, self.width), initializer=init.random_normal(stddev=0.02)
        )
        here = jax.lax.dynamic_slice_in_dim(place, start, tokens.shape[1])
        return (
            layers.embedding(scope / "tokens", tokens, input_dim=256, output_dim=self.width) + here
        )

    def read_out(self, scope: js.Scope, x: Array) -> Logits:
        return layers.layer_norm(scope / "norm", x) @ scope["tokens/embeddings"].T

    def __call__(self, scope: js.Scope, tokens: Tokens, *, training: bool = False) -> Logits:
        """The logits of each next byte."""
        block = functools.partial(self.block, training=training, decoding=False)
        rematerialized = jax.checkpoint(block)
        x, _ = jax.lax.scan(
            lambda x, layer: (rematerialized(layer, x), None),
            self.embed(scope, tokens, 0),
            scope.stacked("blocks", self.depth),
        )
        return self.read_out(scope, x)

    def decode(self, scope: js.Scope, tokens: Tokens, start: Array | int) -> Logits:
        """The same for the next bytes of a text of which ``start`` are in the cache."""
        block = js.with_updates(functools.partial(self.block, training=False, decoding=True))

        def body(x: Array, layer: js.Scope) -> tuple[Array, js.VarTree]:
            return block(layer, x)

        blocks = scope.stacked("blocks", self.depth)
        x, updates = jax.lax.scan(body, self.embed(scope, tokens, start), blocks)
        (scope / "blocks").update(updates)
        return self.read_out(scope, x)


# 3. and 4. The mesh, and training on it.


def mesh_of(data: int, model: int) -> Mesh:
    devices = jax.devices()[: data * model]
    kinds = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((data, model), ("data", "model"), axis_types=kinds, devices=devices)


def declare(model: GPT) -> js.Declaration:
    return js.declare(model)(jax.ShapeDtypeStruct((1, model.context), jnp.int32))


def train(
    model: GPT, data: np.ndarray, steps: int, seed: int, mesh: Mesh
) -> tuple[js.VarTree, list[float]]:
    """The trained parameters and each step's loss. Nothing in it depends on the mesh."""
    first, second = jax.random.split(jax.random.key(seed))
    optimizer = optax.adamw(LEARNING_RATE)
    traces = []

    def loss_of(params: js.VarTree, tokens: Tokens, key: PRNGKeyArray) -> Array:
        traces.append("one")
        logits = model(js.Scope(params, rngs=key), tokens[:, :-1], training=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: js.VarTree, opt_state: Any, tokens: Tokens, key: PRNGKeyArray) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(params, tokens, key)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    losses: list[float] = []
    with jax.set_mesh(mesh):
        params = declare(model).init(first, rules=RULES)
        opt_state = optimizer.init(params)
        begin = time.perf_counter()
        for i, tokens in zip(range(steps), batches(data, model.context, seed), strict=False):
            placed = jax.device_put(tokens, NamedSharding(mesh, P("data")))
            key = jax.random.fold_in(second, i)
            params, opt_state, loss = step(params, opt_state, placed, key)
            losses.append(float(loss))
            if i % 25 == 0 or i == steps - 1:
                seconds = time.perf_counter() - begin
                print(f"step {i:4d}  loss {losses[-1]:.3f}  {seconds:6.1f} s", flush=True)
    assert len(traces) == 1
    return params, losses


def check_equal(sharded: list[float], single: list[float]) -> None:
    worst = max(abs(a - b) for a, b in zip(sharded, single, strict=False))
    print(f"\nThe first {len(single)} losses on one device differ by at most {worst:.1e}.")
    assert worst < 1e-3


def held_out_loss(model: GPT, params: js.VarTree, data: np.ndarray) -> float:
    pieces = list(zip(range(8), batches(data, model.context, 0), strict=False))
    tokens = np.concatenate([piece for _, piece in pieces])
    logits = jax.jit(lambda params, x: model(js.Scope(params), x))(params, tokens[:, :-1])
    return float(optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean())


# 5. Generation.


def empty_cache(model: GPT) -> js.VarTree:
    """The variables that only the decoding model has."""
    declared = js.declare(model.decode)(jax.ShapeDtypeStruct((1, 1), jnp.int32), 0)
    return declared.split(declared.init(jax.random.key(0)))[1]


def generate(model: GPT, params: js.VarTree, prompt: bytes, key: PRNGKeyArray) -> bytes:
    """Continue a text until the context is full: the prompt in one call, then byte by byte."""
    decode = js.with_updates(model.decode)
    start = jnp.array([list(prompt)], jnp.int32)
    room = model.context - len(prompt)

    def choose(logits: Array, key: PRNGKeyArray) -> Array:
        return jax.random.categorical(key, logits[:, -1:] / 0.5).astype(jnp.int32)

    @jax.jit
    def run(params, cache, key):
        logits, cache = decode(params | cache, start, 0)
        first = choose(logits, jax.random.fold_in(key, 0))

        def body(carry, i):
            token, cache = carry
            logits, cache = decode(params | cache, token, i)
            return (choose(logits, jax.random.fold_in(key, i)), cache), token

        places = jnp.arange(len(prompt), model.context, dtype=jnp.int32)
        return jax.lax.scan(body, (first, cache), places)[1]

    tokens = run(params, empty_cache(model), key)
    assert tokens.shape == (room, 1, 1)
    return prompt + bytes(np.asarray(tokens).ravel().astype(np.uint8))


def check_cache(model: GPT, params: js.VarTree, text: bytes) -> None:
    """Reading a text through the cache, in pieces, must give the logits of reading it at once."""
    tokens = jnp.array([list(text)], jnp.int32)
    expected = model(js.Scope(params), tokens)
    cache, pieces, start = empty_cache(model), [], 0
    decode = jax.jit(js.with_updates(model.decode))
    for count in (5, 1, 1, len(text) - 7):
        logits, cache = decode(params | cache, tokens[:, start : start + count], start)
        pieces.append(logits)
        start += count
    worst = float(jnp.abs(jnp.concatenate(pieces, axis=1) - expected).max())
    print(f"Logits through the cache differ by at most {worst:.1e}.")
    assert worst < 1e-3


def main() -> None:
    arguments = parse_arguments()
    learn, held_out = load()
    model = GPT()
    declared = declare(model)
    print(declared, "\n")
    print(declared.plan({"data": 2, "model": 4}, RULES, optimizer=optax.adamw(1e-3)), "\n")

    print("Eight devices:")
    params, losses = train(model, learn, arguments.steps, arguments.seed, mesh_of(2, 4))
    print("One device:")
    few = min(COMPARED, arguments.steps)
    _, single = train(model, learn, few, arguments.seed, mesh_of(1, 1))
    check_equal(losses, single)
    on_one = jax.device_put(params, jax.devices()[0])
    loss = held_out_loss(model, on_one, held_out)
    print(f"Held-out loss {loss:.3f}, {loss / np.log(2):.2f} bits per byte.")

    text = generate(model, on_one, b"The ", jax.random.key(arguments.seed))
    check_cache(model, on_one, text)
    print(f"\n{text.decode(errors='replace')}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200, help="of training (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error("--steps must be at least 1")
    return arguments


if __name__ == "__main__":
    main()
