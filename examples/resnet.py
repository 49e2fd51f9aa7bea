"""A residual network with batch statistics: what a model assigns comes back beside its result.

The story, in the order in which `main` tells it:

1. **Data.** scikit-learn's 1,797 real digits of 8 x 8 pixels, a quarter of them held out.
2. **Model.** A residual block is a plain function. Its batch normalization assigns moving
   statistics, so the body of `jax.lax.scan` is `js.with_updates(block)`: it returns each block's
   updates as plain outputs, and the model assigns them to the stack.
3. **Training.** `js.with_updates(model)` gives the logits and what was assigned; the new state is
   ``state | updates``. Gradients are those of the parameters alone.
4. **Checks.** With moving statistics, a digit's logits don't depend on its batch. The stack taken
   apart by `js.unstack` runs through a Python loop of the same block, with the same logits.
"""

import argparse
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jscope as js
from jscope import initializers as init
from jscope import layers

Images = Float[np.ndarray | Array, "n 8 8 1"]
Labels = Int[np.ndarray | Array, " n"]
Logits = Float[Array, "n 10"]

BATCH = 64
LEARNING_RATE = 3e-3


# 1. Data.


class Digits(NamedTuple):
    """Images with values from 0 to 1, and what they show."""

    images: Images
    labels: Labels


def load() -> tuple[Digits, Digits]:
    """The digits to learn from and those held out."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    train, test, train_labels, test_labels = train_test_split(
        images, labels.astype(np.int32), test_size=0.25, stratify=labels, random_state=0
    )
    return Digits(train, train_labels), Digits(test, test_labels)


def batches(data: Digits, key: PRNGKeyArray) -> Iterator[Digits]:
    """The data in random order; what doesn't fill the last batch is left out."""
    order = np.asarray(jax.random.permutation(key, len(data.labels)))
    for i in range(0, len(order) - BATCH + 1, BATCH):
        rows = order[i : i + BATCH]
        yield Digits(data.images[rows], data.labels[rows])


# 2. The model.


@dataclass(frozen=True)
class ResNet:
    """Settings are static; what is learned is in the scope."""

    filters: int = 32
    depth: int = 4

    def normalized_conv(self, scope: js.Scope, x: Array, *, training: bool) -> Array:
        x = layers.conv(
            scope / "conv",
            x,
            filters=self.filters,
            kernel_size=3,
            padding="SAME",
            use_bias=False,
            kernel_initializer=init.he_normal(),
        )
        return layers.batch_norm(scope / "norm", x, training=training, momentum=0.9)

    def block(self, scope: js.Scope, x: Array, *, training: bool) -> Array:
        y = jax.nn.relu(self.normalized_conv(scope / "first", x, training=training))
        y = self.normalized_conv(scope / "second", y, training=training)
        return jax.nn.relu(x + y)

    def stem(self, scope: js.Scope, images: Images, *, training: bool) -> Array:
        return jax.nn.relu(self.normalized_conv(scope / "stem", images, training=training))

    def head(self, scope: js.Scope, x: Array) -> Logits:
        return layers.dense(scope / "head", x.mean((1, 2)), units=10)

    def __call__(self, scope: js.Scope, images: Images, *, training: bool) -> Logits:
        """The blocks as one stack: traced once, however many there are."""
        blocks = scope.stacked("blocks", self.depth)

        def body(x: Array, layer: js.Scope) -> tuple[Array, js.VarTree]:
            return js.with_updates(self.block)(layer, x, training=training)

        # Unrolled, since in a compiled loop XLA's convolutions on CPUs take 30 times as long.
        x = self.stem(scope, images, training=training)
        x, updates = jax.lax.scan(body, x, blocks, unroll=True)
        blocks.update(updates)  # none, unless training
        return self.head(scope, x)

    def unrolled(self, scope: js.Scope, images: Images) -> Logits:
        """The same network as a loop, with variables of their own for each block."""
        x = self.stem(scope, images, training=False)
        for i in range(self.depth):
            x = self.block(scope / f"blocks/{i}", x, training=False)
        return self.head(scope, x)


# 3. Training.


def train(
    model: ResNet, data: Digits, held_out: Digits, epochs: int, key: PRNGKeyArray
) -> js.VarTree:
    """The trained network, its moving statistics included."""
    first, second = jax.random.split(key)
    declared = js.declare(model)(data.images[:1], training=True)
    print(declared)
    params, state = declared.split(declared.init(first))
    steps = epochs * (len(data.labels) // BATCH)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))
    opt_state = optimizer.init(params)
    apply = js.with_updates(functools.partial(model, training=True))

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params: js.VarTree, state: js.VarTree, opt_state: Any, batch: Digits) -> Any:
        def loss(params: js.VarTree) -> tuple[Array, js.VarTree]:
            logits, updates = apply(params | state, batch.images)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
            return losses.mean(), updates

        (value, updates), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        change, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, change), state | updates, opt_state, value

    begin = time.perf_counter()
    for epoch in range(1, epochs + 1):
        losses = []
        for batch in batches(data, jax.random.fold_in(second, epoch)):
            params, state, opt_state, value = step(params, state, opt_state, batch)
            losses.append(value)
        accuracy = accuracy_of(evaluate(model, params | state, held_out.images), held_out)
        seconds = time.perf_counter() - begin
        print(
            f"epoch {epoch:2}  train loss {np.mean(losses):.3f}  "
            f"held-out accuracy {accuracy:.2%}  {seconds:5.1f} s",
            flush=True,
        )
    return params | state


@functools.partial(jax.jit, static_argnums=0)
def evaluate(model: ResNet, variables: js.VarTree, images: Images) -> Logits:
    """Without training nothing is assigned, so the model is called as any function is."""
    return model(js.Scope(variables), images, training=False)


def accuracy_of(logits: Logits, data: Digits) -> float:
    return float(np.mean(np.asarray(logits).argmax(-1) == data.labels))


# 4. Checks.


def check(model: ResNet, variables: js.VarTree, data: Digits) -> None:
    logits = evaluate(model, variables, data.images)
    alone = np.concatenate([evaluate(model, variables, data.images[i, None]) for i in range(10)])
    report("Ten digits one by one, and in their batch", alone, logits[:10])

    blocks = js.unstack(variables, "blocks")
    unrolled = jax.jit(lambda v: model.unrolled(js.Scope(v), data.images))(blocks)
    report(f"A loop over {model.depth} blocks, and a scan", unrolled, logits)


def report(what: str, found: Any, expected: Any) -> None:
    worst = float(abs(found - expected).max())
    print(f"{what}: logits differ by at most {worst:.0e}.")
    assert worst < 1e-3


def main() -> None:
    arguments = parse_arguments()
    learn, held_out = load()
    model = ResNet()
    variables = train(model, learn, held_out, arguments.epochs, jax.random.key(arguments.seed))
    print()
    check(model, variables, held_out)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=10, help="(default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error("--epochs must be at least 1")
    return arguments


if __name__ == "__main__":
    main()
