"""Llama with weights of Hugging Face: out of sharded safetensors into a scanned stack, and back.

The story, in the order in which `main` tells it:

1. **Model.** Tokens, blocks of attention and a gated layer between normalizations, a readout, which
   is the table of the tokens where the two are tied. Positions are rotations of queries and keys,
   several heads of queries share one of keys and values. One variable has the weights of all
   blocks, so that `jax.lax.scan` compiles one block.
2. **Names.** One map goes from the saved names to the model's: dots become slashes, each layer of
   the checkpoint a slice of a stack, and PyTorch's kernels, (out, in), are transposed.
3. **Restoring** is `Saver.restore` with the map, from one file or from many with their index.
   Whatever the model and the checkpoint don't agree in is one error, before anything is read.
4. **Exporting** is the same map, read from right to left: `transformers` reads the result.

``--model`` is the directory of a model on your disk, with its ``config.json``. Without it the story
is told with a small one of random weights.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import jscope as js
from jscope import layers
from jscope.interop import safetensors

Tokens = Int[Array, "batch time"]
Logits = Float[Array, "batch time vocabulary"]

# Small, but with all that a large one has.
SMALL = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


# 1. The model.


@dataclass(frozen=True)
class Llama:
    """A decoder; settings are static, and say nothing about variables' names."""

    vocabulary: int
    width: int
    hidden: int
    depth: int
    heads: int
    kv_heads: int
    head_size: int
    epsilon: float
    theta: float
    is_tied: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The model of a ``config.json``.

        Raises:
            ValueError: If it is of a kind that is not written here.
        """
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        kind = rope.get("rope_type", "default")
        if kind != "default" or config.get("attention_bias") or config.get("mlp_bias"):
            raise ValueError(f"rotations of type {kind!r}, or biases, are not written here")
        heads = config["num_attention_heads"]
        return cls(
            vocabulary=config["vocab_size"],
            width=config["hidden_size"],
            hidden=config["intermediate_size"],
            depth=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_size=config.get("head_dim") or config["hidden_size"] // heads,
            epsilon=config["rms_norm_eps"],
            theta=rope.get("rope_theta") or config.get("rope_theta", 10000.0),
            is_tied=config.get("tie_word_embeddings", False),
        )

    def dense(self, scope: js.Scope, x: Array, units: int) -> Array:
        return layers.dense(scope, x, units=units, use_bias=False)

    def norm(self, scope: js.Scope, x: Array) -> Array:
        return layers.rms_norm(scope, x, epsilon=self.epsilon)

    def attention(self, scope: js.Scope, x: Array) -> Array:
        def heads(name: str, count: int) -> Array:
            projected = self.dense(scope / name, x, count * self.head_size)
            return projected.reshape((*x.shape[:2], count, self.head_size))

        query, key = (
            rotated(heads(name, count), self.theta)
            for name, count in (("q", self.heads), ("k", self.kv_heads))
        )
        y = jax.nn.dot_product_attention(query, key, heads("v", self.kv_heads), is_causal=True)
        return self.dense(scope / "o", y.reshape((*x.shape[:2], -1)), self.width)

    def gated(self, scope: js.Scope, x: Array) -> Array:
        y = jax.nn.silu(self.dense(scope / "gate", x, self.hidden))
        y = y * self.dense(scope / "up", x, self.hidden)
        return self.dense(scope / "down", y, self.width)

    def block(self, scope: js.Scope, x: Array) -> Array:
        x = x + self.attention(scope / "attention", self.norm(scope / "norm_1", x))
        return x + self.gated(scope / "mlp", self.norm(scope / "norm_2", x))

    def __call__(self, scope: js.Scope, tokens: Tokens) -> Logits:
        """The logits of each next token."""
        x = layers.embedding(
            scope / "tokens", tokens, input_dim=self.vocabulary, output_dim=self.width
        )
        x, _ = jax.lax.scan(
            lambda x, layer: (self.block(layer, x), None), x, scope.stacked("layers", self.depth)
        )
        x = self.norm(scope / "norm", x)
        if self.is_tied:
            return x @ scope["tokens/embeddings"].T
        return self.dense(scope / "head", x, self.vocabulary)


def rotated(x: Float[Array, "batch time heads size"], theta: float) -> Array:
    r"""Each pair $(x_i, x_{i + d/2})$, turned by the angle $t\, \theta^{-2i/d}$ at position $t$."""
    first, second = jnp.split(x, 2, axis=-1)
    half = first.shape[-1]
    speed = theta ** (-np.arange(half, dtype=np.float32) / half)
    angle = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None, None] * speed
    cos, sin = jnp.cos(angle)[None].astype(x.dtype), jnp.sin(angle)[None].astype(x.dtype)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


# 2. Names.


def names(model: Llama) -> dict[str, str | js.Through]:
    """From Hugging Face's names to the model's."""

    def kernel(name: str) -> js.Through:
        return js.Through(f"{name}/kernel", np.transpose, np.transpose)

    layer, mine = "model/layers/*", "layers/*"
    return {
        "model/embed_tokens/weight": "tokens/embeddings",
        f"{layer}/input_layernorm/weight": f"{mine}/norm_1/gamma",
        f"{layer}/post_attention_layernorm/weight": f"{mine}/norm_2/gamma",
        "model/norm/weight": "norm/gamma",
        **{f"{layer}/self_attn/{n}_proj/weight": kernel(f"{mine}/attention/{n}") for n in "qkvo"},
        **{
            f"{layer}/mlp/{n}_proj/weight": kernel(f"{mine}/mlp/{n}")
            for n in ("gate", "up", "down")
        },
        **({} if model.is_tied else {"lm_head/weight": kernel("head")}),
    }


# 3. and 4. In and out.


def read_config(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "config.json").read_text())


def restore(directory: Path) -> tuple[Llama, js.VarTree]:
    """A model and its variables, in float32."""
    model = Llama.from_config(read_config(directory))
    declared = js.declare(model)(jnp.zeros((1, 2), jnp.int32))
    saver = js.Saver(directory)
    # Exact from bfloat16 and float16. A declaration knows its stacks.
    variables = saver.restore(declared, rename=names(model), names=".", convert=True)
    return model, variables


def export(
    model: Llama, variables: js.VarTree, directory: Path, max_shard_size: str = "5GB"
) -> None:
    """Write the variables as Hugging Face's libraries read them; they also need ``config.json``."""
    safetensors.export(
        variables,
        directory,
        max_shard_size=max_shard_size,
        rename=names(model),
        names=".",
        stacks=["layers"],
    )


def make_small(directory: Path) -> None:
    """A model of random weights, in shards."""
    model = Llama.from_config(SMALL)
    variables = js.init(model)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    export(model, variables, directory, max_shard_size="200KB")
    (directory / "config.json").write_text(json.dumps(SMALL, indent=2))


def main(directory: Path, again: Path) -> None:
    model, variables = restore(directory)
    shards = sorted(path.name for path in directory.glob("*.safetensors"))
    print(f"{variables.size:,} parameters out of {len(shards)} files, {model}\n")
    print(js.declare(model)(jnp.zeros((1, 2), jnp.int32)))

    tokens = jnp.arange(24, dtype=jnp.int32).reshape(2, 12) % model.vocabulary
    apply = jax.jit(lambda variables, tokens: model(js.Scope(variables), tokens))
    logits = apply(variables, tokens)
    print(f"\nThe most probable next tokens: {logits[:, -1].argmax(-1).tolist()}")

    export(model, variables, again)
    shutil.copy(directory / "config.json", again)
    _, twice = restore(again)
    assert jnp.array_equal(apply(twice, tokens), logits)
    print(f"Exported to {again} and restored: the logits are equal to the last bit.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="a directory with config.json and safetensors")
    parser.add_argument("--out", type=Path, help="where to export to; default: nowhere that stays")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.model is None:
            arguments.model = Path(scratch) / "small"
            make_small(arguments.model)
        main(arguments.model, arguments.out or Path(scratch) / "exported")
