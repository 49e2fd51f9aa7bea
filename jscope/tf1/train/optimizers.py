r"""TF1's optimizers, with TF's arithmetic, arguments, defaults and names of slots.

Each is an Optax transformation: ``init(params)`` and ``update(gradients, opt_state, params)``. In
the formulas $w$ is a variable, $g$ its gradient, $l$ the learning rate; what is right of an arrow
are old values, or those that a line above has made. The sources are TensorFlow 1.15's,
``python/training/*.py`` and ``core/kernels/training_ops.cc``.

**Arguments that all have**, after TF's:

* ``learning_rate``: a number, an array, or a schedule: a function of the step. The step is the
  optimizer's own, which `restore` sets to ``global_step``; or that of ``update(...,
  global_step=step)``.
* ``use_locking``: TF's; it has no effect, since an update is one value.
* ``name``: the last component of the slots' names, and TF's defaults.
* ``scope``, ``name_scope``: the variable scope and the name scope in which TF1's program calls
  ``minimize``, if any; see `Optimizer`.

**Sparse gradients**, `IndexedSlices`: values of one index are summed first. Then all but two
optimizers change only the rows that are there, slots too. `AdamOptimizer` and
`AdamWeightDecayOptimizer` do what they do with the dense gradient, as in TF.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from ..._names.selectors import Selector, matching
from .optimizer import Optimizer, Rate, Slot, Slots, Variable
from .schedules import scalar


class GradientDescentOptimizer(Optimizer):
    r"""$w \leftarrow w - l\,g$. No slots.

    Source: ``tf.train.GradientDescentOptimizer``; ``optax.sgd(learning_rate)`` is the same.
    """

    def __new__(
        cls,
        learning_rate: Rate,
        use_locking: bool = False,
        name: str = "GradientDescent",
        *,
        scope: str = "",
        name_scope: str | None = None,
    ) -> Optimizer:
        """The arguments are described at the top of this file."""
        del use_locking

        def step(v: Variable) -> tuple[Array, Slots]:
            return -(v.gradient * v.rate), {}

        return super().__new__(
            cls, learning_rate, step, name=name, scope=scope, name_scope=name_scope
        )


class MomentumOptimizer(Optimizer):
    r"""$a \leftarrow \mu\,a + g,\ w \leftarrow w - l\,a$; or Nesterov's $w - l\,g - l\,\mu\,a$.

    Slots: ``w/Momentum``, $a$, which begins at 0.

    Args:
        learning_rate: $l$, as for all.
        momentum: $\mu$.
        use_locking: As for all.
        name: As for all.
        use_nesterov: Whether to use Nesterov's form.

    Source: ``tf.train.MomentumOptimizer``; ``optax.sgd(learning_rate, momentum)`` has the same
        arithmetic.
    """

    def __new__(
        cls,
        learning_rate: Rate,
        momentum: ArrayLike,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
        *,
        scope: str = "",
        name_scope: str | None = None,
    ) -> Optimizer:
        """The arguments are described above."""
        del use_locking

        def step(v: Variable) -> tuple[Array, Slots]:
            decay = v.number(momentum)
            sums = v.slots["momentum"] * decay + v.gradient
            if use_nesterov:
                return -(v.gradient * v.rate + sums * decay * v.rate), {"momentum": sums}
            return -(sums * v.rate), {"momentum": sums}

        return super().__new__(
            cls,
            learning_rate,
            step,
            name=name,
            slots=(Slot("momentum", name),),
            scope=scope,
            name_scope=name_scope,
        )


class AdamOptimizer(Optimizer):
    r"""Adam with TF's epsilon, which the paper calls $\hat\epsilon$.

    $$m \leftarrow m + (g - m)(1 - \beta_1), \qquad v \leftarrow v + (g^2 - v)(1 - \beta_2),$$
    $$w \leftarrow w - l\,\frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \cdot
      \frac{m}{\sqrt{v} + \epsilon}.$$

    Slots: ``w/Adam`` and ``w/Adam_1``, $m$ and $v$, which begin at 0; and for all variables
    ``beta1_power`` and ``beta2_power``, $\beta^t$ of the step that comes next, which are float32
    whatever the variables are.

    Args:
        learning_rate: $l$, as for all.
        beta1: $\beta_1$.
        beta2: $\beta_2$.
        epsilon: $\epsilon$.
        use_locking: As for all.
        name: As for all.

    In bfloat16 0.999 is 1, as in TF: then $v$ and the first updates are 0. Keep the parameters in
    float32, or give ``beta2=0.99`` and a larger epsilon.

    Source: ``tf.train.AdamOptimizer``. `optax.adam` divides $v$ by $1 - \beta_2^t$ first, and so
        has another epsilon; it counts steps in place of powers.
    """

    def __new__(
        cls,
        learning_rate: Rate = 0.001,
        beta1: ArrayLike = 0.9,
        beta2: ArrayLike = 0.999,
        epsilon: ArrayLike = 1e-8,
        use_locking: bool = False,
        name: str = "Adam",
        *,
        scope: str = "",
        name_scope: str | None = None,
    ) -> Optimizer:
        """The arguments are described above."""
        del use_locking

        def step(v: Variable) -> tuple[Array, Slots]:
            one, p1, p2 = v.number(1), v.powers["beta1_power"], v.powers["beta2_power"]
            rate = v.rate * jnp.sqrt(one - p2) / (one - p1)
            m = v.slots["m"] + (v.gradient - v.slots["m"]) * (one - v.number(beta1))
            s = v.slots["v"] + (v.gradient * v.gradient - v.slots["v"]) * (one - v.number(beta2))
            return -(m * rate / (jnp.sqrt(s) + v.number(epsilon))), {"m": m, "v": s}

        return super().__new__(
            cls,
            learning_rate,
            step,
            name=name,
            slots=(Slot("m", name), Slot("v", name)),
            powers={"beta1_power": beta1, "beta2_power": beta2},
            sparse=cls._sparse,
            scope=scope,
            name_scope=name_scope,
        )

    _sparse = "dense"


class LazyAdamOptimizer(AdamOptimizer):
    r"""`AdamOptimizer`, but with `IndexedSlices` only the rows that are there change.

    Source: ``tf.contrib.opt.LazyAdamOptimizer``.
    """

    _sparse = "rows"


class AdamWeightDecayOptimizer(Optimizer):
    r"""BERT's AdamW: no correction of the first steps, and weight decay beside the gradient.

    $$m \leftarrow \beta_1 m + (1 - \beta_1)\,g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\,g^2,
      \qquad w \leftarrow w - l\left(\frac{m}{\sqrt{v} + \epsilon} + d\,w\right).$$

    Slots: ``w/adam_m`` and ``w/adam_v``, whatever the name is.

    >>> optimizer = js.tf1.train.AdamWeightDecayOptimizer(
    ...     5e-5,
    ...     weight_decay_rate=0.01,
    ...     exclude_from_weight_decay=["LayerNorm", "layer_norm", "bias"],
    ... )

    Args:
        learning_rate: $l$, as for all.
        weight_decay_rate: $d$.
        beta_1: $\beta_1$.
        beta_2: $\beta_2$.
        epsilon: $\epsilon$.
        exclude_from_weight_decay: The variables without decay. A list is BERT's: regular
            expressions, each searched for in names. Or a selector, such as ``"**/bias"``.
        name: TF's; it has no effect.

    Source: ``AdamWeightDecayOptimizer``, ``optimization.py`` of BERT (google-research, 2018). In
        it ``apply_gradients`` doesn't count ``global_step``; the program does.
    """

    def __new__(
        cls,
        learning_rate: Rate,
        weight_decay_rate: ArrayLike = 0.0,
        beta_1: ArrayLike = 0.9,
        beta_2: ArrayLike = 0.999,
        epsilon: ArrayLike = 1e-6,
        exclude_from_weight_decay: Sequence[str] | Selector | None = None,
        name: str = "AdamWeightDecayOptimizer",
        *,
        scope: str = "",
        name_scope: str | None = None,
    ) -> Optimizer:
        """The arguments are described above."""

        def step(v: Variable) -> tuple[Array, Slots]:
            # 1 - 0.999 as BERT has it, in Python: in float32 it would be off by 5e-5.
            new1, new2 = v.number(1.0 - beta_1), v.number(1.0 - beta_2)
            m = v.number(beta_1) * v.slots["adam_m"] + new1 * v.gradient
            s = v.number(beta_2) * v.slots["adam_v"] + new2 * (v.gradient * v.gradient)
            update = m / (jnp.sqrt(s) + v.number(epsilon))
            if not _is_excluded(v, exclude_from_weight_decay):
                update = update + v.number(weight_decay_rate) * v.value
            return -(v.rate * update), {"adam_m": m, "adam_v": s}

        return super().__new__(
            cls,
            learning_rate,
            step,
            name=name,
            slots=(Slot("adam_m", "adam_m"), Slot("adam_v", "adam_v")),
            sparse="dense",
            scope=scope,
            name_scope=name_scope,
        )


def _is_excluded(variable: Variable, excluded: Sequence[str] | Selector | None) -> bool:
    if excluded is None:
        return False
    if isinstance(excluded, list | tuple) and all(isinstance(text, str) for text in excluded):
        return any(re.search(text, variable.name) for text in excluded)
    return bool(matching({variable.name: variable.value}, excluded, allow_empty=True))


class AdagradOptimizer(Optimizer):
    r"""$a \leftarrow a + g^2,\ w \leftarrow w - l\,g / \sqrt{a}$.

    Slots: ``w/Adagrad``, $a$, which begins at ``initial_accumulator_value``.

    Args:
        learning_rate: $l$, as for all.
        initial_accumulator_value: The first $a$, above 0.
        use_locking: As for all.
        name: As for all.

    Raises:
        ValueError: If ``initial_accumulator_value`` is not above 0.

    Source: ``tf.train.AdagradOptimizer``. `optax.adagrad` adds an epsilon to $a$.
    """

    def __new__(
        cls,
        learning_rate: Rate,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
        *,
        scope: str = "",
        name_scope: str | None = None,
    ) -> Optimizer:
        """The arguments are described above."""
        del use_locking
        if initial_accumulator_value <= 0:
            raise ValueError(
                f"initial_accumulator_value must be positive, got {initial_accumulator_value!r}: "
                "gradients are divided by its square root. TF's default is 0.1."
            )

        def step(v: Variable) -> tuple[Array, Slots]:
            sums = v.slots["accumulator"] + v.gradient * v.gradient
            return -(v.gradient * v.rate / jnp.sqrt(sums)), {"accumulator": sums}

        return super().__new__(
            cls,
            learning_rate,
            step,
            name=name,
            slots=(Slot("accumulator", name, initial_accumulator_value),),
            scope=scope,
            name_scope=name_scope,
        )


class RMSPropOptimizer(Optimizer):
    r"""Gradients over the root of their mean square, with momentum.

    $$s \leftarrow s + (g^2 - s)(1 - \rho), \qquad
      p \leftarrow \mu\,p + l\,g / \sqrt{s + \epsilon}, \qquad w \leftarrow w - p;$$

    centered, also $c \leftarrow c + (g - c)(1 - \rho)$, and $s - c^2$ under the root.

    Slots: ``w/RMSProp``, $s$, which begins at 1; centered, ``w/RMSProp_1`` is $c$; and the last is
    $p$.

    Args:
        learning_rate: $l$, as for all.
        decay: $\rho$.
        momentum: $\mu$.
        epsilon: $\epsilon$.
        use_locking: As for all.
        centered: Whether to subtract the squared mean.
        name: As for all.

    Source: ``tf.train.RMSPropOptimizer``. ``optax.rmsprop(..., initial_scale=1)`` is the same
        without momentum; with it Optax multiplies by the rate after the momentum, which differs if
        the rate changes.
    """

    def __new__(
        cls,
        learning_rate: Rate,
        decay: ArrayLike = 0.9,
        momentum: ArrayLike = 0.0,
        epsilon: ArrayLike = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        name: str = "RMSProp",
        *,
        scope: str = "",
        name_scope: str | None = None,
    ) -> Optimizer:
        """The arguments are described above."""
        del use_locking

        def step(v: Variable) -> tuple[Array, Slots]:
            g, rest = v.gradient, v.number(1) - v.number(decay)
            rms = v.slots["rms"] + (g * g - v.slots["rms"]) * rest
            new, variance = {"rms": rms}, rms
            if centered:
                new["mg"] = v.slots["mg"] + (g - v.slots["mg"]) * rest
                variance = rms - new["mg"] * new["mg"]
            scaled = g * v.rate / jnp.sqrt(variance + v.number(epsilon))
            new["momentum"] = v.slots["momentum"] * v.number(momentum) + scaled
            return -new["momentum"], new

        mean = (Slot("mg", name),) if centered else ()
        return super().__new__(
            cls,
            learning_rate,
            step,
            name=name,
            slots=(Slot("rms", name, 1.0), *mean, Slot("momentum", name)),
            scope=scope,
            name_scope=name_scope,
        )


class AdadeltaOptimizer(Optimizer):
    r"""Adadelta, times a learning rate.

    $$a \leftarrow \rho\,a + (1 - \rho)\,g^2, \qquad
      d = g\,\sqrt{u + \epsilon} / \sqrt{a + \epsilon}, \qquad
      u \leftarrow \rho\,u + (1 - \rho)\,d^2, \qquad w \leftarrow w - l\,d.$$

    Slots: ``w/Adadelta`` and ``w/Adadelta_1``, $a$ and $u$, which begin at 0.

    Args:
        learning_rate: $l$, as for all; 1 in the paper.
        rho: $\rho$.
        epsilon: $\epsilon$.
        use_locking: As for all.
        name: As for all.

    Source: ``tf.train.AdadeltaOptimizer``; `optax.adadelta` has the same formula, and other
        defaults.
    """

    def __new__(
        cls,
        learning_rate: Rate = 0.001,
        rho: ArrayLike = 0.95,
        epsilon: ArrayLike = 1e-8,
        use_locking: bool = False,
        name: str = "Adadelta",
        *,
        scope: str = "",
        name_scope: str | None = None,
    ) -> Optimizer:
        """The arguments are described above."""
        del use_locking

        def step(v: Variable) -> tuple[Array, Slots]:
            g, decay, small = v.gradient, v.number(rho), v.number(epsilon)
            rest, old = v.number(1) - decay, v.slots["accum_update"]
            sums = v.slots["accum"] * decay + g * g * rest
            change = jnp.sqrt(old + small) * jax.lax.rsqrt(sums + small) * g
            changes = old * decay + change * change * rest
            return -(change * v.rate), {"accum": sums, "accum_update": changes}

        return super().__new__(
            cls,
            learning_rate,
            step,
            name=name,
            slots=(Slot("accum", name), Slot("accum_update", name)),
            scope=scope,
            name_scope=name_scope,
        )


class FtrlOptimizer(Optimizer):
    r"""Follow the regularized leader.

    With $\sigma = (a'^{-p} - a^{-p}) / l$ and $a' = a + g^2$,

    $$z \leftarrow z + g + 2 \lambda_s w - \sigma w, \qquad a \leftarrow a', \qquad
      w \leftarrow \begin{cases}
        \dfrac{\lambda_1 \operatorname{sign}(z) - z}{(\beta + a^{-p}) / l + 2 \lambda_2}
        & |z| > \lambda_1 \\ 0 & \text{else.} \end{cases}$$

    Slots: ``w/Ftrl``, $a$, which begins at ``initial_accumulator_value``; ``w/Ftrl_1``, $z$, which
    begins at 0.

    Args:
        learning_rate: $l$, as for all.
        learning_rate_power: $p$, at most 0.
        initial_accumulator_value: The first $a$, at least 0.
        l1_regularization_strength: $\lambda_1$, at least 0.
        l2_regularization_strength: $\lambda_2$, at least 0.
        use_locking: As for all.
        name: As for all.
        accum_name: In the place of ``name`` for $a$.
        linear_name: In the place of ``name`` for $z$.
        l2_shrinkage_regularization_strength: $\lambda_s$, at least 0.
        beta: $\beta$; None is 0.

    Raises:
        ValueError: If one of them is out of its range.

    Source: ``tf.train.FtrlOptimizer``; Optax has none. Difference: TF sets variables, and here the
        new value less the old one is added, which differs in the last bit.
    """

    def __new__(
        cls,
        learning_rate: Rate,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "Ftrl",
        accum_name: str | None = None,
        linear_name: str | None = None,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float | None = None,
        *,
        scope: str = "",
        name_scope: str | None = None,
    ) -> Optimizer:
        """The arguments are described above."""
        del use_locking
        _check_at_least_0(
            initial_accumulator_value=initial_accumulator_value,
            l1_regularization_strength=l1_regularization_strength,
            l2_regularization_strength=l2_regularization_strength,
            l2_shrinkage_regularization_strength=l2_shrinkage_regularization_strength,
        )
        if learning_rate_power > 0:
            raise ValueError(
                f"learning_rate_power must be negative or zero, got {learning_rate_power!r}. TF's "
                "default is -0.5; 0 is a fixed learning rate."
            )

        def powered(v: Variable, sums: Array) -> Array:
            if learning_rate_power == -0.5:
                return jnp.sqrt(sums)
            return jnp.power(sums, v.number(-learning_rate_power))

        def step(v: Variable) -> tuple[Array, Slots]:
            g, w, l1, two = v.gradient, v.value, v.number(l1_regularization_strength), v.number(2)
            l2 = scalar(l2_regularization_strength).astype(v.rate.dtype)
            l2 = l2 + v.number(beta or 0.0) / (two * jnp.maximum(v.rate, v.number(1e-36)))
            if l2_shrinkage_regularization_strength:
                g = g + two * v.number(l2_shrinkage_regularization_strength) * w
            sums = v.slots["accum"] + v.gradient * v.gradient
            sigma = (powered(v, sums) - powered(v, v.slots["accum"])) / v.rate
            linear = v.slots["linear"] + g - sigma * w
            shrunk = (l1 * jnp.sign(linear) - linear) / (powered(v, sums) / v.rate + two * l2)
            new = jnp.where(jnp.abs(linear) > l1, shrunk, jnp.zeros_like(w))
            return new - w, {"accum": sums, "linear": linear}

        return super().__new__(
            cls,
            learning_rate,
            step,
            name=name,
            slots=(
                Slot("accum", accum_name or name, initial_accumulator_value),
                Slot("linear", linear_name or name),
            ),
            scope=scope,
            name_scope=name_scope,
        )


def _check_at_least_0(**numbers: Any) -> None:
    for argument, number in numbers.items():
        if number < 0:
            raise ValueError(f"{argument} must be positive or zero, got {number!r}.")
