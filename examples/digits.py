"""Handwritten digits: a model made of scopes learns, comes back, and is fine-tuned.

The story, in the order in which `main` tells it:

1. **Data.** scikit-learn's 1,797 real digits of 8 x 8 pixels, a quarter of them held out.
2. **Model.** A network is a plain function whose first argument is a scope. `js.declare` finds
   its variables without computing anything, and prints them as a table.
3. **Training.** One jitted update gets what is trained and what is not as two trees, and what
   it replaces is donated. After each epoch: the held-out digits, and a checkpoint.
4. **A second process** has this file and a directory, and nothing else. It restores the latest
   checkpoint and must compute the same logits, to the last bit.
5. **Fine-tuning.** A network learns the digits 0-4. A new one gets the convolutional scopes of
   its checkpoint and a new head, and learns 5-9 by training the head alone. Read back from
   the last checkpoint, the rest must be what it was, to the last bit.
6. **Report.** A table, and a PNG with curves, filters, and the digits it got wrong.

Each run writes to a new folder below --out and deletes nothing. On one machine, runs with the
same seed give the same numbers.
"""

import argparse
import functools
import hashlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jscope as js
from jscope import initializers as init
from jscope import regularizers

Images = Float[np.ndarray | Array, "n 8 8 1"]
Labels = Int[np.ndarray | Array, " n"]
Logits = Float[Array, "n classes"]
Model = Callable[[js.Scope, Images], Logits]

BATCH = 64
LEARNING_RATE = 3e-3
DECAY = regularizers.l2(1e-3)
RESTORED = ("pixels/*", "conv_*/**")  # what fine-tuning takes from a checkpoint, and freezes


# 1. Data.


class Digits(NamedTuple):
    """Images with values from 0 to 1, and the classes of what they show."""

    images: Images
    labels: Labels

    def only(self, digits: range) -> "Digits":
        """Those that show one of ``digits``, whose classes count from 0 again."""
        keep = np.isin(self.labels, digits)
        return Digits(self.images[keep], self.labels[keep] - digits.start)


def load() -> tuple[Digits, Digits]:
    """The digits to learn from and those held out: the same ones in every process."""
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


def shifted(key: PRNGKeyArray, images: Images) -> Images:
    """Every image moved by at most one pixel along each axis; what comes in is empty paper."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    corners = jax.random.randint(key, (2, len(images)), 0, 3)
    return jax.vmap(lambda x, i, j: jax.lax.dynamic_slice(x, (i, j, 0), (8, 8, 1)))(
        padded, *corners
    )


# 2. The model: functions of a scope. Whoever calls one says where its variables live.


def standardize(scope: js.Scope, images: Images) -> Images:
    """Subtract a mean and divide by a deviation: variables too, but never trained."""
    mean = scope.get_variable("mean", (), initializer=init.zeros, trainable=False)
    deviation = scope.get_variable("deviation", (), initializer=init.ones, trainable=False)
    return (images - mean) / deviation


def conv(scope: js.Scope, x: Array, *, features: int, stride: int = 1) -> Array:
    shape = (3, 3, x.shape[-1], features)
    w = scope.get_variable("w", shape, initializer=init.he_normal(), regularizer=DECAY)
    b = scope.get_variable("b", (features,), initializer=init.zeros)
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=layout)
    return y + b


def dense(scope: js.Scope, x: Array, *, features: int) -> Array:
    shape = (x.shape[-1], features)
    w = scope.get_variable("w", shape, initializer=init.glorot_uniform(), regularizer=DECAY)
    b = scope.get_variable("b", (features,), initializer=init.zeros)
    return x @ w + b


def cnn(scope: js.Scope, images: Images, *, classes: int) -> Logits:
    x = standardize(scope / "pixels", images)
    x = jax.nn.relu(conv(scope / "conv_1", x, features=48))
    x = jax.nn.relu(conv(scope / "conv_2", x, features=48, stride=2))
    x = jax.nn.relu(conv(scope / "conv_3", x, features=48))
    return dense(scope / "head", x.reshape(len(x), -1), features=classes)


TEN = functools.partial(cnn, classes=10)
FIVE = functools.partial(cnn, classes=5)


def declare(model: Model) -> js.Declaration:
    """The model's variables; the shape of an image is enough."""
    return js.declare(model)(jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32))


def initialize(model: Model, key: PRNGKeyArray, data: Digits) -> js.VarTree:
    """Initial values, with the mean and deviation of the data's pixels."""
    variables = declare(model).init(key)
    variables = js.assign(variables, "pixels/mean", data.images.mean())
    return js.assign(variables, "pixels/deviation", data.images.std())


# 3. Training.


class Task(NamedTuple):
    """What is to be learned from what, and where its checkpoints are."""

    title: str
    model: Model
    learned: Digits
    held_out: Digits
    directory: Path


class Result(NamedTuple):
    """How good some variables are on some digits."""

    loss: float
    accuracy: float
    logits: np.ndarray

    def __str__(self) -> str:
        digest = hashlib.sha256(self.logits.tobytes()).hexdigest()
        return f"test accuracy {self.accuracy:.2%} of {len(self.logits)}, logits {digest[:16]}"


@functools.partial(jax.jit, static_argnames="model")
def logits_and_loss(model: Model, scope: js.Scope, data: Digits) -> tuple[Logits, Array]:
    """A scope is a pytree, so it passes through all of JAX's transforms as it is."""
    logits = model(scope, data.images)
    return logits, optax.softmax_cross_entropy_with_integer_labels(logits, data.labels).mean()


def evaluate(model: Model, variables: js.VarTree, data: Digits) -> Result:
    logits, loss = jax.device_get(logits_and_loss(model, js.Scope(variables), data))
    return Result(float(loss), float(np.mean(logits.argmax(-1) == data.labels)), logits)


def make_update(model: Model, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """One jitted step of training.

    The gradient is that of ``params``, so nothing changes ``state``, whatever is in it. The
    old ``params`` and ``opt_state`` are donated: they can't be used again.
    """
    declared = declare(model)

    @functools.partial(jax.jit, donate_argnames=("params", "opt_state"))
    def update(
        params: js.VarTree, state: js.VarTree, opt_state: Any, batch: Digits, key: PRNGKeyArray
    ) -> tuple[js.VarTree, Any, Array]:
        batch = Digits(shifted(key, batch.images), batch.labels)

        def loss(params: js.VarTree) -> Array:
            _, loss = logits_and_loss(model, js.Scope(params, state), batch)
            return loss + declared.regularization_loss(params | state)

        value, gradient = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    return update


class Epoch(NamedTuple):
    """One line of the log, one point of the curves."""

    step: int
    seconds: float
    train_loss: float
    test: Result


def train(
    task: Task, params: js.VarTree, state: js.VarTree, epochs: int, key: PRNGKeyArray
) -> list[Epoch]:
    """Train ``params`` and leave ``state`` alone; evaluate and save both after each epoch."""
    steps = epochs * (len(task.learned.labels) // BATCH)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))
    update, opt_state = make_update(task.model, optimizer), optimizer.init(params)
    order_key, shift_key = jax.random.split(key)
    log: list[Epoch] = []
    begin, step = time.perf_counter(), 0
    print(f"\n{task.title}: {len(task.learned.labels)} digits to learn from")
    with js.Saver(task.directory) as saver, tqdm(total=steps, leave=False, disable=None) as bar:
        for epoch in range(1, epochs + 1):
            losses = []
            for batch in batches(task.learned, jax.random.fold_in(order_key, epoch)):
                by = jax.random.fold_in(shift_key, step)
                params, opt_state, loss = update(params, state, opt_state, batch, by)
                losses.append(loss)  # read after the epoch: reading waits for the device
                step += 1
                bar.update()
            variables = params | state
            saver.save_async(variables, step)  # takes a copy, so the next step may donate
            test = evaluate(task.model, variables, task.held_out)
            log.append(Epoch(step, time.perf_counter() - begin, float(np.mean(losses)), test))
            tqdm.write(
                f"  epoch {epoch:2}  step {step:3}  train loss {log[-1].train_loss:.3f}"
                f"  test loss {test.loss:.3f}  test accuracy {test.accuracy:.2%}"
            )
    return log


def learn(task: Task, epochs: int, key: PRNGKeyArray) -> list[Epoch]:
    """Train a new network, all of it that is trainable."""
    init_key, train_key = jax.random.split(key)
    variables = initialize(task.model, init_key, task.learned)
    params, state = declare(task.model).split(variables)
    return train(task, params, state, epochs, train_key)


# 4. A second process.


def restored(task: Task) -> js.VarTree:
    """The latest checkpoint; the code of the model is all that must be known."""
    with js.Saver(task.directory) as saver:
        return saver.restore(declare(task.model))


def check_in_second_process(task: Task, here: Result) -> None:
    """Let this file evaluate the latest checkpoint in another process, and compare."""
    # On an accelerator this process has most of the memory; the other shall take what it needs.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, __file__, "--evaluate", str(task.directory)]
    there = subprocess.check_output(command, env=environment, text=True).strip()
    print(f"\nThis process    {here}\nSecond process  {there}")
    check(str(here) == there, "the second process has other results.")
    print("Equal, to the last bit of the logits.")


def check(condition: bool, otherwise: str) -> None:
    if not condition:
        sys.exit(f"FAILED: {otherwise}")


# 5. Fine-tuning.


def fine_tune(task: Task, source: Task, epochs: int, key: PRNGKeyArray) -> list[Epoch]:
    """Train a new head on what the convolutions of another network see."""
    init_key, train_key = jax.random.split(key)
    variables = initialize(task.model, init_key, task.learned)
    with js.Saver(source.directory) as saver:
        variables = saver.restore(variables, select=RESTORED)  # the head keeps its new values
    frozen, head = js.partition(variables, RESTORED)
    before = evaluate(task.model, variables, task.held_out)
    print(f"\nRestored and frozen: {len(frozen)} variables. New: {', '.join(head)}.")
    print(f"Before training: test accuracy {before.accuracy:.2%}")
    return train(task, head, frozen, epochs, train_key)


def check_frozen(source: Task, tuned: Task) -> None:
    """Compare the latest checkpoints of both."""
    before, after = restored(source), restored(tuned)
    print("\nThe fine-tuned checkpoint against the one it came from:")
    for name in before:
        differ = np.sum(np.asarray(before[name] != after[name]))
        print(f"  {name:18} {before[name].size:6,} values, {differ:5,} differ")
    frozen = js.select(before, RESTORED)
    # Trees are equal if they have the same names, and values with the same bits.
    check(frozen == js.select(after, RESTORED), "training the head changed the frozen part.")
    print(f"The frozen part, {len(frozen)} variables, is bit-identical.")


# 6. Report.


def print_summary(runs: list[tuple[Task, list[Epoch]]]) -> None:
    print(f"\n{'':23}{'steps':>5}{'test accuracy':>15}{'seconds':>9}{'checkpoint':>16}")
    for task, log in runs:
        step, seconds, _, test = log[-1]
        files = (task.directory / str(step)).rglob("*")
        size = sum(file.stat().st_size for file in files if file.is_file())
        print(f"{task.title:23}{step:5}{test.accuracy:15.2%}{seconds:9.1f}{size:10,} bytes")


def draw(path: Path, runs: list[tuple[Task, list[Epoch]]]) -> None:
    """Curves of all runs; filters and mistakes of the first."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(5, 4))
    draw_curves(above.subplots(1, 2), runs)
    left, right = below.subfigures(1, 2)
    task, log = runs[0]
    draw_filters(left, restored(task)["conv_1/w"])
    draw_mistakes(right, task.held_out, log[-1].test)
    figure.savefig(path, dpi=120)


def draw_curves(axes: np.ndarray, runs: list[tuple[Task, list[Epoch]]]) -> None:
    for i, (task, log) in enumerate(runs):
        x = range(1, len(log) + 1)
        axes[0].plot(x, [e.train_loss for e in log], f"C{i}--")
        axes[0].plot(x, [e.test.loss for e in log], f"C{i}.-", label=task.title)
        axes[1].plot(x, [100 * e.test.accuracy for e in log], f"C{i}.-", label=task.title)
    axes[0].plot([], [], "k--", label="while training: shifted, with weight decay")
    axes[0].set(title="Loss on held-out digits", ylabel="cross-entropy (nats)", yscale="log")
    axes[1].set(title="Accuracy on held-out digits", ylabel="%")
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.grid(alpha=0.3)
        ax.legend()
        ax.xaxis.get_major_locator().set_params(integer=True)


def draw_filters(figure: Any, filters: Float[Array, "3 3 1 48"]) -> None:
    figure.suptitle("First-layer filters: red positive, blue negative")
    largest = float(abs(filters).max())
    for i, ax in enumerate(figure.subplots(6, 8).flat):
        ax.imshow(filters[..., 0, i], cmap="RdBu_r", vmin=-largest, vmax=largest)
        ax.set_axis_off()


def draw_mistakes(figure: Any, data: Digits, result: Result) -> None:
    predicted = result.logits.argmax(-1)
    wrong = np.flatnonzero(predicted != data.labels)
    figure.suptitle(f"Misclassified: {len(wrong)} of {len(data.labels)} held-out digits")
    axes = figure.subplots(1 + (len(wrong) > 4), 4)
    for ax, i in itertools.zip_longest(axes.flat, wrong[:8]):
        ax.set_axis_off()
        if i is not None:
            ax.imshow(data.images[i, ..., 0], cmap="gray_r", vmin=0, vmax=1)
            ax.set_title(f"{data.labels[i]}, taken for {predicted[i]}", fontsize="medium")


def main() -> None:
    begin = time.perf_counter()
    arguments = parse_arguments()
    data = load()
    if arguments.evaluate:
        task = Task("Second process", TEN, *data, arguments.evaluate)
        print(evaluate(TEN, restored(task), task.held_out))
        return
    out = arguments.out / time.strftime("%Y%m%d-%H%M%S")
    out.mkdir(parents=True)
    keys = jax.random.split(jax.random.key(arguments.seed), 3)

    print(declare(TEN))
    ten = Task("Digits 0-9", TEN, *data, out / "0-9")
    ten_log = learn(ten, arguments.epochs, keys[0])
    check_in_second_process(ten, ten_log[-1].test)

    low = Task("Digits 0-4", FIVE, *(d.only(range(5)) for d in data), out / "0-4")
    high = Task("Digits 5-9, head only", FIVE, *(d.only(range(5, 10)) for d in data), out / "5-9")
    half = (arguments.epochs + 1) // 2
    low_log = learn(low, half, keys[1])
    high_log = fine_tune(high, low, half, keys[2])
    check_frozen(low, high)

    runs = [(ten, ten_log), (low, low_log), (high, high_log)]
    print_summary(runs)
    print(f"{'All but the imports':43}{time.perf_counter() - begin:9.1f}")
    draw(out / "digits.png", runs)
    print(f"\nCurves, filters and mistakes: {out / 'digits.png'}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--epochs", type=int, default=20, help="fine-tuning takes half as many (default: 20)")
    add("--out", type=Path, default="runs/digits", help="for checkpoints and PNG (%(default)s)")
    add("--seed", type=int, default=0, help="of initial values, order and shifts (default: 0)")
    add("--evaluate", type=Path, metavar="DIR", help="only restore what is there, and evaluate it")
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error("--epochs must be at least 1")
    return arguments


if __name__ == "__main__":
    main()
