"""TF1's learning-rate decays: ``tf.train.exponential_decay`` and its kin.

Each takes TF's arguments in TF's order, with None for the step, and returns a schedule: a function
of the step, as the optimizers here and Optax's take one for their learning rate.

The arithmetic is TF's, in the dtype of the learning rate, which is float32 for Python's numbers.
"""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

Schedule = Callable[[ArrayLike], Array]


def scalar(value: ArrayLike) -> Array:
    """A rate, or another number of a schedule, as TF's tensor: float32, or an array as it is."""
    return jnp.asarray(value, np.float32 if type(value) in (int, float) else None)


def exponential_decay(
    learning_rate: ArrayLike,
    global_step: None,
    decay_steps: ArrayLike,
    decay_rate: ArrayLike,
    staircase: bool = False,
    name: str | None = None,
) -> Schedule:
    r"""$\texttt{learning\_rate} \cdot \texttt{decay\_rate}^{\,t / \texttt{decay\_steps}}$.

    >>> rate = js.tf1.train.exponential_decay(1.0, None, 10, 0.5, staircase=True)
    >>> float(rate(19))
    0.5

    Args:
        learning_rate: The rate at step 0.
        global_step: None; the step $t$ is the argument of the schedule.
        decay_steps: In how many steps the rate falls by ``decay_rate``.
        decay_rate: The factor by which it falls.
        staircase: Whether the exponent is rounded down.
        name: TF's; it has no effect.

    Returns:
        A schedule: ``schedule(step) -> rate``.

    Raises:
        TypeError: If ``global_step`` is not None.

    Source:
        ``tf.train.exponential_decay``, TensorFlow 1.15,
        ``python/training/learning_rate_decay.py``. Difference: the step is not bound.
    """
    del name
    _check_unbound("exponential_decay", global_step)

    def schedule(step: ArrayLike) -> Array:
        rate = scalar(learning_rate)
        periods = _periods(step, decay_steps, rate, staircase)
        return rate * jnp.power(_like(decay_rate, rate), periods)

    return schedule


def natural_exp_decay(
    learning_rate: ArrayLike,
    global_step: None,
    decay_steps: ArrayLike,
    decay_rate: ArrayLike,
    staircase: bool = False,
    name: str | None = None,
) -> Schedule:
    r"""$\texttt{learning\_rate} \cdot e^{-\texttt{decay\_rate} \cdot t / \texttt{decay\_steps}}$.

    Args and errors are those of `exponential_decay`, but ``decay_rate`` is that of the exponent.

    Source: ``tf.train.natural_exp_decay``: $(e^{-\texttt{decay\_rate}})^{t/\texttt{decay\_steps}}$.
    """
    del name
    _check_unbound("natural_exp_decay", global_step)

    def schedule(step: ArrayLike) -> Array:
        rate = scalar(learning_rate)
        periods = _periods(step, decay_steps, rate, staircase)
        return rate * jnp.power(jnp.exp(-_like(decay_rate, rate)), periods)

    return schedule


def inverse_time_decay(
    learning_rate: ArrayLike,
    global_step: None,
    decay_steps: ArrayLike,
    decay_rate: ArrayLike,
    staircase: bool = False,
    name: str | None = None,
) -> Schedule:
    r"""$\texttt{learning\_rate} / (1 + \texttt{decay\_rate} \cdot t / \texttt{decay\_steps})$.

    Args and errors are those of `exponential_decay`.

    Source: ``tf.train.inverse_time_decay``.
    """
    del name
    _check_unbound("inverse_time_decay", global_step)

    def schedule(step: ArrayLike) -> Array:
        rate = scalar(learning_rate)
        periods = _periods(step, decay_steps, rate, staircase)
        return rate / (_like(1, rate) + _like(decay_rate, rate) * periods)

    return schedule


def polynomial_decay(
    learning_rate: ArrayLike,
    global_step: None,
    decay_steps: ArrayLike,
    end_learning_rate: ArrayLike = 0.0001,
    power: ArrayLike = 1.0,
    cycle: bool = False,
    name: str | None = None,
) -> Schedule:
    r"""From one rate to another: $(l - e)(1 - t / s)^{\texttt{power}} + e$.

    Args:
        learning_rate: $l$, the rate at step 0.
        global_step: None; the step $t$ is the argument of the schedule.
        decay_steps: $s$, when $e$ is reached. From then on the rate stays, or with ``cycle``
            goes on with the first multiple of $s$ that is not below $t$ in its place.
        end_learning_rate: $e$.
        power: The power; 1 is linear.
        cycle: See ``decay_steps``.
        name: TF's; it has no effect.

    Returns:
        A schedule: ``schedule(step) -> rate``.

    Raises:
        TypeError: If ``global_step`` is not None.

    Source: ``tf.train.polynomial_decay``.
    """
    del name
    _check_unbound("polynomial_decay", global_step)

    def schedule(step: ArrayLike) -> Array:
        rate = scalar(learning_rate)
        now, end, steps = (_like(x, rate) for x in (step, end_learning_rate, decay_steps))
        if cycle:
            steps = steps * jnp.where(now == 0, _like(1, rate), jnp.ceil(now / steps))
        else:
            now = jnp.minimum(now, steps)
        return (rate - end) * jnp.power(_like(1, rate) - now / steps, _like(power, rate)) + end

    return schedule


def cosine_decay(
    learning_rate: ArrayLike,
    global_step: None,
    decay_steps: ArrayLike,
    alpha: ArrayLike = 0.0,
    name: str | None = None,
) -> Schedule:
    r"""$\texttt{learning\_rate} \cdot ((1 - \alpha)(1 + \cos(\pi t / s))/2 + \alpha)$.

    Args:
        learning_rate: The rate at step 0.
        global_step: None; the step $t$ is the argument of the schedule.
        decay_steps: $s$, from when on the rate stays.
        alpha: $\alpha$, the last rate as a fraction of the first.
        name: TF's; it has no effect.

    Returns:
        A schedule: ``schedule(step) -> rate``.

    Raises:
        TypeError: If ``global_step`` is not None.

    Source: ``tf.train.cosine_decay``; [Loshchilov and Hutter](https://arxiv.org/abs/1608.03983).
    """
    del name
    _check_unbound("cosine_decay", global_step)

    def schedule(step: ArrayLike) -> Array:
        rate = scalar(learning_rate)
        now, steps, low, one = (_like(x, rate) for x in (step, decay_steps, alpha, 1))
        cosine = jnp.cos(_like(math.pi, rate) * (jnp.minimum(now, steps) / steps))
        return rate * ((one - low) * (_like(0.5, rate) * (one + cosine)) + low)

    return schedule


def piecewise_constant(
    x: None,
    boundaries: Sequence[int],
    values: Sequence[ArrayLike],
    name: str | None = None,
) -> Schedule:
    r"""``values[0]`` up to and with step ``boundaries[0]``, then ``values[1]``, and so on.

    >>> rate = js.tf1.train.piecewise_constant(None, [100, 200], [1.0, 0.5, 0.1])
    >>> [round(float(rate(step)), 6) for step in (100, 101, 200, 201)]
    [1.0, 0.5, 0.5, 0.1]

    Args:
        x: None; the step is the argument of the schedule.
        boundaries: The last step of each value but the last, in increasing order.
        values: The rates, one more than boundaries.
        name: TF's; it has no effect.

    Returns:
        A schedule: ``schedule(step) -> rate``.

    Raises:
        TypeError: If ``x`` is not None.
        ValueError: If there is not one value more than boundaries.

    Source: ``tf.train.piecewise_constant``.
    """
    del name
    _check_unbound("piecewise_constant", x)
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"piecewise_constant was passed {len(boundaries)} boundaries and {len(values)} values; "
            "`values` must have one more than `boundaries`: the first until the first boundary, "
            "the last after the last one."
        )

    def schedule(step: ArrayLike) -> Array:
        now = jnp.asarray(step)
        passed = [now > jnp.asarray(boundary).astype(now.dtype) for boundary in boundaries]
        rates = jnp.stack([scalar(value) for value in values])
        return rates[sum((p.astype(np.int32) for p in passed), start=jnp.int32(0))]

    return schedule


def _check_unbound(function: str, step: object) -> None:
    """Raise if a schedule was passed a step, which changes while the schedule stays."""
    if step is not None:
        raise TypeError(
            f"{function} was passed the step {step!r}, which changes while the schedule stays. "
            f"Pass None for the step, in TF1's order: rate = tf1.train.{function}(...). The "
            "optimizer calls this function of the step, and so can you."
        )


def _like(value: ArrayLike, rate: Array) -> Array:
    """A number of a schedule in the dtype of its rate."""
    return jnp.asarray(value).astype(rate.dtype)


def _periods(step: ArrayLike, steps: ArrayLike, rate: Array, staircase: bool) -> Array:
    """How many periods of a schedule have passed."""
    periods = _like(step, rate) / _like(steps, rate)
    return jnp.floor(periods) if staircase else periods
