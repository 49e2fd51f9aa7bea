"""ResNet v1 in slim's style: `arg_scope`, batch norm, weight decay, and fine-tuning without logits.

The network is that of *Deep Residual Learning for Image Recognition* (He et al., 2015). Names,
shapes and the order of creation are those of TF-slim's checkpoints, such as
``resnet_v1_50/block1/unit_1/bottleneck_v1/conv1/weights``.

A small one learns the digits 0 to 4 and is saved as TensorFlow's program saves it. Then another,
for all ten digits, takes over all but the logits and is trained on.

Differences from a TF1 program:

* `arg_scope` takes a scope and returns one: the defaults travel with it, and nothing is global.
* A function of slim's has a parameter ``scope`` that is a name. The scope in which it is opened is
  one more parameter, the first; here it is called ``vs``.
* The updates of the moving statistics are no collection: `js.with_updates` returns them.
* The loss of weight decay is a function of the parameters: ``declared.regularization_loss``.
"""

import argparse
import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray
from sklearn.datasets import load_digits

import jscope as js
from jscope import initializers as init
from jscope import regularizers, tf1
from jscope.interop import tensorflow
from jscope.tf1 import contrib

Images = Float[Array, "batch height width channels"]

# 1. The network.


@dataclass(frozen=True)
class Block:
    """Some units of one depth, the last of which has a stride."""

    scope: str
    base_depth: int
    units: int
    stride: int


RESNET_50 = (
    Block("block1", 64, 3, 2),
    Block("block2", 128, 4, 2),
    Block("block3", 256, 6, 2),
    Block("block4", 512, 3, 1),
)


def resnet_arg_scope(vs: js.Scope, *, training: bool, weight_decay: float = 1e-4) -> js.Scope:
    """The defaults of all layers: slim's ``resnet_arg_scope``."""
    vs = tf1.arg_scope(
        vs,
        [contrib.conv2d],
        weights_regularizer=regularizers.l2(weight_decay),
        weights_initializer=init.he_normal(),
        normalizer_fn=contrib.batch_norm,
    )
    vs = tf1.arg_scope(
        vs, [contrib.batch_norm], is_training=training, decay=0.9, epsilon=1e-5, scale=True
    )
    return tf1.arg_scope(vs, [contrib.max_pool2d], padding="SAME")


def conv2d_same(
    vs: js.Scope, inputs: Images, depth: int, size: int, stride: int, scope: str
) -> Images:
    """A convolution whose padding doesn't depend on the size of the images."""
    if stride == 1:
        return contrib.conv2d(vs, inputs, depth, size, scope=scope)
    before, after = (size - 1) // 2, size // 2
    padded = jnp.pad(inputs, [(0, 0), (before, after), (before, after), (0, 0)])
    return contrib.conv2d(vs, padded, depth, size, stride, padding="VALID", scope=scope)


@tf1.add_arg_scope
def bottleneck(
    vs: js.Scope, inputs: Images, base_depth: int, stride: int, scope: str | None = None
) -> Images:
    depth = 4 * base_depth
    with vs.variable_scope(scope, "bottleneck_v1") as vs:
        if inputs.shape[-1] == depth:
            shortcut = inputs[:, ::stride, ::stride]
        else:
            shortcut = contrib.conv2d(
                vs, inputs, depth, 1, stride, activation_fn=None, scope="shortcut"
            )
        residual = contrib.conv2d(vs, inputs, base_depth, 1, scope="conv1")
        residual = conv2d_same(vs, residual, base_depth, 3, stride, scope="conv2")
        residual = contrib.conv2d(vs, residual, depth, 1, activation_fn=None, scope="conv3")
        return jax.nn.relu(shortcut + residual)


def resnet_v1(
    vs: js.Scope,
    images: Images,
    blocks: Sequence[Block],
    classes: int,
    *,
    training: bool = False,
    include_root_block: bool = True,
    scope: str = "resnet_v1",
) -> Float[Array, "batch classes"]:
    """Logits. Without the root block the images aren't made smaller first."""
    with vs.variable_scope(scope) as vs:
        vs = resnet_arg_scope(vs, training=training)
        x = images
        if include_root_block:
            x = conv2d_same(vs, x, 64, 7, 2, scope="conv1")
            x = contrib.max_pool2d(vs, x, 3, 2)
        for block in blocks:
            with vs.variable_scope(block.scope) as inner:
                for i in range(1, block.units + 1):
                    stride = block.stride if i == block.units else 1
                    with inner.variable_scope(f"unit_{i}") as unit:
                        x = bottleneck(unit, x, block.base_depth, stride)
        x = x.mean(axis=(1, 2), keepdims=True)
        logits = contrib.conv2d(
            vs, x, classes, 1, activation_fn=None, normalizer_fn=None, scope="logits"
        )
        return logits[:, 0, 0]


# 2. Training.


def optimizer_for(rate: float) -> tf1.train.Optimizer:
    schedule = tf1.train.exponential_decay(rate, None, 20, 0.7, staircase=True)
    return tf1.train.MomentumOptimizer(schedule, 0.9)


@functools.partial(jax.jit, static_argnames=("network", "optimizer"))
def train_step(
    training: tf1.train.TrainingState,
    images: Images,
    labels: Int[Array, " batch"],
    network: "Network",
    optimizer: tf1.train.Optimizer,
) -> tf1.train.TrainingState:
    params, state, opt_state, global_step = training

    def loss_of(params: js.VarTree) -> tuple[Array, js.VarTree]:
        logits, updates = js.with_updates(network)(params | state, images, training=True)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        decay = network.declare(images).regularization_loss(params)
        return losses.mean() + decay, updates

    grads, statistics = jax.grad(loss_of, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    return tf1.train.TrainingState(params, state | statistics, opt_state, global_step + 1)


@dataclass(frozen=True)
class Network:
    """`resnet_v1` with all arguments but the images'."""

    blocks: tuple[Block, ...]
    classes: int
    include_root_block: bool = True

    def __call__(self, vs: js.Scope, images: Images, *, training: bool = False) -> Array:
        return resnet_v1(
            vs,
            images,
            self.blocks,
            self.classes,
            training=training,
            include_root_block=self.include_root_block,
        )

    def declare(self, images: Images) -> js.Declaration:
        return js.declare(self)(images, training=True)


def begin(
    declared: js.Declaration, variables: js.VarTree, optimizer: tf1.train.Optimizer
) -> tf1.train.TrainingState:
    params, state = declared.split(variables)
    zero = jnp.zeros((), jnp.int32)
    return tf1.train.TrainingState(params, state, optimizer.init(params), zero)


def without_logits(declared: js.Declaration, path: str, key: PRNGKeyArray) -> js.VarTree:
    """All but the logits from a checkpoint.

    Slim's ``get_variables_to_restore(exclude=["resnet_v1/logits"])``.
    """
    logits = "resnet_v1/logits/**"
    drop = [logits, f"{logits}/Momentum", tensorflow.SLOTS, "global_step"]
    variables, report = tensorflow.restore(declared, path, drop=drop, missing="init", key=key)
    print(f"{len(report.restored)} variables restored; new: {', '.join(report.initialized)}")
    return variables


# 3. The story.


def train(
    training: tf1.train.TrainingState,
    network: Network,
    data: tuple[np.ndarray, np.ndarray],
    optimizer: tf1.train.Optimizer,
    steps: int,
) -> tf1.train.TrainingState:
    images, labels = data
    for _ in range(steps):
        picked = np.random.default_rng(int(training.global_step)).integers(0, len(images), 64)
        training = train_step(training, images[picked], labels[picked], network, optimizer)
    return training


def accuracy(
    training: tf1.train.TrainingState, network: Network, data: tuple[np.ndarray, np.ndarray]
) -> float:
    variables = training.params | training.state
    # The scope is made inside, for unnamed layers can't be counted across the boundary of a jit.
    logits = jax.jit(lambda tree: network(js.Scope(tree), data[0]))(variables)
    return float(np.mean(logits.argmax(axis=-1) == data[1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=80, help="of each training (default: 80)")
    parser.add_argument("--seed", type=int, default=0, help="of the initial values (default: 0)")
    arguments = parser.parse_args()
    steps, key = arguments.steps, jax.random.key(arguments.seed)

    digits = load_digits()
    images, labels = np.float32(digits.images[..., None] / 16), digits.target.astype(np.int32)
    learn, held_out = (images[400:], labels[400:]), (images[:400], labels[:400])
    first_five = [(x[y < 5], y[y < 5]) for x, y in (learn, held_out)]
    blocks = (Block("block1", 8, 2, 2), Block("block2", 16, 2, 1))

    optimizer = optimizer_for(0.05)
    network = Network(blocks, 5, include_root_block=False)
    declared = network.declare(images[:1])
    training = begin(declared, declared.init(key), optimizer)
    training = train(training, network, first_five[0], optimizer, steps)
    print(f"Digits 0 to 4, held-out accuracy {accuracy(training, network, first_five[1]):.1%}")

    network = Network(blocks, 10, include_root_block=False)
    declared = network.declare(images[:1])
    with tempfile.TemporaryDirectory() as folder:
        path = tf1.train.save(training, f"{folder}/model.ckpt", optimizer)
        variables = without_logits(declared, path, key)
    training = begin(declared, variables, optimizer)
    print(f"All digits before training, {accuracy(training, network, held_out):.1%}")
    training = train(training, network, learn, optimizer, steps)
    print(f"All digits, held-out accuracy {accuracy(training, network, held_out):.1%}")


if __name__ == "__main__":
    main()
