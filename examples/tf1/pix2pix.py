"""pix2pix, a conditional GAN: two optimizers over two scopes, and moving averages of losses.

The method is that of *Image-to-Image Translation with Conditional Adversarial Networks* (Isola et
al., 2017): a U-Net, the generator, makes an image of another, and the discriminator says of each
patch whether it was made or is real. Names, defaults and the order of creation are those of the
well-known TensorFlow program, such as ``generator/encoder_2/conv2d/kernel``.

The inputs are outlines of discs and boxes, and the targets the shapes, filled.

Differences from a TF1 program:

* The discriminator is called twice, and what is an optimizer's ``var_list`` in TF1 is the part of
  the parameters that each loss is differentiated with respect to.
* Both gradients are those of the values before the step. In TF1 ``control_dependencies`` makes the
  generator's step the later one, but the losses are computed only once, before both.
* The averages of the losses are not variables of the model. They are carried along in ``state``, by
  the names that TF1 makes of the losses' operations.
* Batch norm always takes the statistics of its batch. The moving ones are created, and stay as they
  are: the TF1 program doesn't run ``UPDATE_OPS``.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

import jscope as js
from jscope import initializers as init
from jscope import tf1, tf_checkpoint
from jscope.tf1 import layers

Images = Float[Array, "batch height width channels"]

EPS = 1e-12
GAN_WEIGHT, L1_WEIGHT = 1.0, 100.0
# What TF1 calls the operations of the three losses.
DISCRIMINATOR = "discriminator_loss/Mean"
GAN, L1 = "generator_loss/Mean", "generator_loss/Mean_1"

# 1. The two networks.


@dataclass(frozen=True)
class Sizes:
    """The program's sizes; those by default are for images of 256 x 256.

    Attributes:
        ngf: Filters of the generator's first layer.
        ndf: Filters of the discriminator's first layer.
        encoders: Filters of each encoder, in ``ngf``; each halves the image.
        dropout: The rates of the first decoders.
        halvings: How often the discriminator halves the image.
    """

    ngf: int = 64
    ndf: int = 64
    encoders: tuple[int, ...] = (1, 2, 4, 8, 8, 8, 8, 8)
    dropout: tuple[float, ...] = (0.5, 0.5, 0.5)
    halvings: int = 3


def conv_arg_scope(scope: js.Scope) -> js.Scope:
    """The defaults of all convolutions."""
    convolutions = [layers.conv2d, layers.conv2d_transpose]
    kernels = init.random_normal(0.0, 0.02)
    return tf1.arg_scope(scope, convolutions, kernel_size=4, kernel_initializer=kernels)


def batch_norm(scope: js.Scope, x: Images) -> Images:
    return layers.batch_normalization(
        scope,
        x,
        momentum=0.1,
        epsilon=1e-5,
        gamma_initializer=init.random_normal(1.0, 0.02),
        training=True,
        update=False,
    )


def generator(scope: js.Scope, inputs: Images, channels: int, sizes: Sizes) -> Images:
    """A U-Net: each decoder but the first also gets the result of the encoder of its size."""
    scope, x = conv_arg_scope(scope), inputs
    encoded, last = [], len(sizes.encoders)
    for i, multiple in enumerate(sizes.encoders, 1):
        with scope.variable_scope(f"encoder_{i}") as s:
            x = x if i == 1 else jax.nn.leaky_relu(x, 0.2)
            x = layers.conv2d(s, x, sizes.ngf * multiple, strides=2, padding="same")
            x = x if i == 1 else batch_norm(s, x)
        encoded.append(x)
    for i in range(last, 0, -1):
        with scope.variable_scope(f"decoder_{i}") as s:
            x = x if i == last else jnp.concatenate([x, encoded[i - 1]], axis=-1)
            filters = channels if i == 1 else sizes.ngf * sizes.encoders[i - 2]
            x = layers.conv2d_transpose(s, jax.nn.relu(x), filters, strides=2, padding="same")
            x = x if i == 1 else batch_norm(s, x)
            if last - i < len(sizes.dropout):
                x = layers.dropout(s, x, sizes.dropout[last - i], training=True)
    return jnp.tanh(x)


def discriminator(
    scope: js.Scope, inputs: Images, targets: Images, sizes: Sizes
) -> Float[Array, "batch height width 1"]:
    """For each patch, how probable it is that the target is real."""
    scope, last = conv_arg_scope(scope), sizes.halvings + 2
    x = jnp.concatenate([inputs, targets], axis=-1)
    for i in range(1, last + 1):
        with scope.variable_scope(f"layer_{i}") as s:
            x = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
            filters = 1 if i == last else sizes.ndf * min(2 ** (i - 1), 8)
            x = layers.conv2d(s, x, filters, strides=2 if i <= sizes.halvings else 1)
            x = x if i in (1, last) else batch_norm(s, x)
            x = x if i == last else jax.nn.leaky_relu(x, 0.2)
    return jax.nn.sigmoid(x)


def generate(scope: js.Scope, inputs: Images, channels: int, sizes: Sizes) -> Images:
    with scope.variable_scope("generator") as s:
        return generator(s, inputs, channels, sizes)


def losses_of(
    scope: js.Scope, inputs: Images, targets: Images, sizes: Sizes
) -> dict[str, Float[Array, ""]]:
    """The three losses, by the names of TF1's operations; and all variables."""
    outputs = generate(scope, inputs, targets.shape[-1], sizes)
    with scope.variable_scope("discriminator") as s:
        real = discriminator(s, inputs, targets, sizes)
    with scope.variable_scope("discriminator", reuse=True) as s:
        fake = discriminator(s, inputs, outputs, sizes)
    return {
        DISCRIMINATOR: jnp.mean(-(jnp.log(real + EPS) + jnp.log(1 - fake + EPS))),
        GAN: jnp.mean(-jnp.log(fake + EPS)),
        L1: jnp.mean(jnp.abs(targets - outputs)),
    }


# 2. Training.

Losses = Mapping[str, Float[Array, ""]]
# What each optimizer minimizes, over the scope of the same name, in TF1's order.
OBJECTIVES: dict[str, Callable[[Losses], Array]] = {
    "discriminator": lambda losses: losses[DISCRIMINATOR],
    "generator": lambda losses: GAN_WEIGHT * losses[GAN] + L1_WEIGHT * losses[L1],
}
# In TF1 each is applied in a name scope, which begins the names of its powers of Adam's betas.
OPTIMIZERS = {
    key: tf1.train.AdamOptimizer(2e-4, 0.5, name_scope=f"{key}_train") for key in OBJECTIVES
}
EMA = js.ExponentialMovingAverage(0.99)
AVERAGES = f"**/{EMA.name}"


def restore(declared: js.Declaration, path: str) -> tf1.train.TrainingState:
    """What a TF1 program, or this, has saved."""
    return tf1.train.restore(
        declared,
        path,
        OPTIMIZERS,
        var_list={key: declared.trainable_variables(key) for key in OPTIMIZERS},
        others=AVERAGES,
    )


def gradients_of(
    key: str,
    training: tf1.train.TrainingState,
    inputs: Images,
    targets: Images,
    sizes: Sizes,
    rng: PRNGKeyArray | None = None,
) -> tuple[js.VarTree, Losses]:
    """The gradients of one objective with respect to its variables, and the losses."""
    variables = training.params | training.state

    def objective(part: js.VarTree) -> tuple[Array, Losses]:
        losses = losses_of(js.Scope(variables | part, rngs=rng), inputs, targets, sizes)
        return OBJECTIVES[key](losses), losses

    return jax.grad(objective, has_aux=True)(js.select(training.params, f"{key}/**"))


@functools.partial(jax.jit, static_argnames="sizes")
def train_step(
    training: tf1.train.TrainingState,
    inputs: Images,
    targets: Images,
    sizes: Sizes,
    rng: PRNGKeyArray,
) -> tf1.train.TrainingState:
    """One step of both networks.

    Each objective has its own call of `losses_of`. The calls are the same computation, dropout
    included, and XLA does it once.
    """
    params, state, opt_state = training.params, training.state, dict(training.opt_state)
    for key, optimizer in OPTIMIZERS.items():
        grads, losses = gradients_of(key, training, inputs, targets, sizes, rng)
        part = js.select(training.params, f"{key}/**")
        changes, opt_state[key] = optimizer.update(grads, opt_state[key], part)
        params = params | optax.apply_updates(part, changes)
    state = state | EMA.apply(js.select(state, AVERAGES), losses)
    return tf1.train.TrainingState(params, state, opt_state, training.global_step + 1)


def begin(declared: js.Declaration, key: PRNGKeyArray) -> tf1.train.TrainingState:
    """New networks. Averages of tensors begin at zero in TF1, those of variables at their value."""
    params, state = declared.split(declared.init(key))
    averages = EMA.init(dict.fromkeys((DISCRIMINATOR, GAN, L1), jnp.zeros(())))
    opt_state = {
        key: optimizer.init(js.select(params, f"{key}/**")) for key, optimizer in OPTIMIZERS.items()
    }
    zero = jnp.zeros((), jnp.int32)
    return tf1.train.TrainingState(params, state | averages, opt_state, zero)


# 3. The story.

SMALL = Sizes(ngf=8, ndf=8, encoders=(1, 2, 4, 8), dropout=(0.5,), halvings=2)


def shapes(count: int, seed: int, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Outlines of discs and boxes, and the same filled; -1 is black, and 1 white."""
    rng = np.random.default_rng(seed)
    radius = rng.uniform(4, size / 3, (count, 1, 1))
    y, x = (rng.uniform(size / 3, size * 2 / 3, (count, 1, 1)) for _ in "yx")
    row, column = np.abs(np.arange(size)[:, None] - y), np.abs(np.arange(size) - x)
    is_disc = rng.integers(0, 2, (count, 1, 1)) == 1
    distance = np.where(is_disc, np.hypot(row, column), np.maximum(row, column)) - radius
    images = (np.abs(distance) < 1, distance < 1)
    inputs, targets = (np.float32(2 * image[..., None] - 1) for image in images)
    return inputs, targets


def show(*images: np.ndarray) -> None:
    """Print images side by side, in every second row."""
    for row in np.concatenate(images, axis=1)[::2, :, 0]:
        print("".join(" .:*#"[round(2 * (float(value) + 1))] for value in row).rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=400, help="of both (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    arguments = parser.parse_args()
    steps, key = arguments.steps, jax.random.key(arguments.seed)

    learn, held_out = shapes(512, arguments.seed), shapes(16, arguments.seed + 1)
    declared = js.declare(losses_of)(*(x[:1] for x in learn), SMALL)
    print(declared)
    training = begin(declared, key)
    for step in range(steps):
        picked = np.random.default_rng(step).integers(0, 512, 8)
        rng = jax.random.fold_in(key, step)
        training = train_step(training, learn[0][picked], learn[1][picked], SMALL, rng)
        if (step + 1) % max(steps // 4, 1) == 0:
            average = EMA.average(training.state)
            print(
                f"step {step + 1:4d}  discrim_loss {average[DISCRIMINATOR]:.3f}  "
                f"gen_loss_GAN {average[GAN]:.3f}  gen_loss_L1 {average[L1]:.3f}"
            )

    @jax.jit
    def made(variables: js.VarTree) -> Array:
        return generate(js.Scope(variables, rngs=key), held_out[0], 1, SMALL)

    outputs = np.asarray(made(training.params | training.state))
    print("An unseen outline, what is made of it, and its target:")
    show(held_out[0][0], outputs[0], held_out[1][0])
    before, after = (np.mean(np.abs(x - held_out[1])) for x in (held_out[0], outputs))
    print(f"Held-out L1 of the outlines {before:.3f}, of the generator {after:.3f}")
    with tempfile.TemporaryDirectory() as folder:
        path = tf1.train.save(training, f"{folder}/model.ckpt", OPTIMIZERS)
        names = [name for name, _ in tf_checkpoint.list_variables(path)]
    kept = [name for name in names if name.endswith(("_power", EMA.name))]
    print(f"Saved {len(names)} variables for TensorFlow, among them:", *kept, sep="\n  ")


if __name__ == "__main__":
    main()
