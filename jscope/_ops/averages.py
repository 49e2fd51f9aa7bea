r"""Moving averages of variables, by TF1's names: `ExponentialMovingAverage`.

The averages are a `VarTree` of their own, in which ``w``'s is called
``w/ExponentialMovingAverage``, as in TF1's checkpoints. So ``params | state | averages`` is one
tree to save, and the averages of TF1 checkpoints are found.

The arithmetic is TF's, $a \leftarrow a - (a - x)(1 - d)$, with $1 - d$ taken in float32. Optax's
``incremental_update`` computes $d\,a + (1 - d)\,x$. In float32 that is the same but for
rounding. In half precision it is not: there $d + (1 - d)$ need not be 1, and the average of a
constant is off by 14 % in bfloat16 with $d = 0.99$. TF's form gives the constant, exactly.
"""

from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from .._errors import DtypeMismatchError, MissingVariableError, TreeMismatchError, near
from .._names.names import check, join
from .._tree.differences import differences
from .._tree.selection import Selector, matching
from .._tree.vartree import VarTree, as_tree, from_flat
from .._variables.collections import GraphKeys
from .._variables.spec import VariableSpec

_FLOATS = ("bfloat16", "float16", "float32", "float64")


@dataclass(frozen=True)
class ExponentialMovingAverage:
    r"""Averages of variables in which the past fades exponentially.

    One `apply` makes of each average $a$, with the variable's value $x$ and $t$ updates so far,

    $$a_{t+1} = a_t - (a_t - x_t)(1 - d), \qquad
      d = \texttt{decay} \text{ or } \min(\texttt{decay},\ (1 + n)/(10 + n)),$$

    the latter if ``num_updates`` $n$ is given: then early averages follow the variable.

    >>> ema = js.ExponentialMovingAverage(0.75)
    >>> params = VarTree({"w": jnp.array(0.0)})
    >>> averages = ema.init(params)
    >>> averages = ema.apply(averages, {"w": jnp.array(1.0)})
    >>> ema.average(averages)["w"]
    Array(0.25, dtype=float32)

    Args:
        decay: $d$ in [0, 1]; the average looks back about $1 / (1 - d)$ updates. An array, made
            in the step, if it changes.
        num_updates: TF1's; an error says that it is an argument of `apply`.
        zero_debias: Averages begin at zero, and what `average` shows is divided by
            $1 - d^t$ ([Kingma and Ba, 2015](https://arxiv.org/abs/1412.6980), section 3). For
            values without an initial value, such as a loss. It keeps two more variables for each
            average, ``<average>/biased`` and ``<average>/local_step``.
        name: The last component of the averages' names.

    Raises:
        ValueError: If ``decay`` is a number outside [0, 1].
        TypeError: If ``num_updates`` is not None.
        VariableNameError: If ``name`` is not a legal name.

    Source:
        ``tf.train.ExponentialMovingAverage``, TensorFlow 1.15,
        ``python/training/moving_averages.py``. Differences: nothing is assigned, `apply` returns
        new averages, and takes ``num_updates``; the averages' names don't depend on the scope in
        which `apply` is called; all averages begin at their variables, or with ``zero_debias``
        all at zero, where TF decides by whether something is a ``tf.Variable``; in half
        precision ``local_step`` is float32, since there 256 + 1 is 256 and $1 - d^t$ is 0.
    """

    decay: float | Array
    num_updates: InitVar[None] = None
    zero_debias: bool = False
    name: str = "ExponentialMovingAverage"

    def __post_init__(self, num_updates: None) -> None:
        if num_updates is not None:
            raise TypeError(
                f"ExponentialMovingAverage was passed num_updates={num_updates!r}, which changes "
                "with each step and so is an argument of the step: write "
                "ema.apply(averages, params, num_updates=step)."
            )
        check(self.name)
        if not isinstance(self.decay, jax.Array) and not 0.0 <= float(self.decay) <= 1.0:
            raise ValueError(f"`decay` must be in [0, 1], got {self.decay!r}.")

    def average_name(self, name: str) -> str:
        """The name of a variable's average: ``w/ExponentialMovingAverage``."""
        return join(name, self.name)

    def init(self, tree: Mapping[str, Any]) -> VarTree:
        """The first averages: the values themselves, or zeros with ``zero_debias``.

        Args:
            tree: The values to average, such as the parameters.

        Returns:
            A tree of the averages, which shares no buffer with ``tree``.

        Raises:
            DtypeMismatchError: If a value is not half, float or double; all such are listed.
        """
        tree = _floats(tree)
        if not self.zero_debias:
            copies = {name: jnp.array(value, copy=True) for name, value in tree.items()}
            return from_flat({self.average_name(name): copy for name, copy in copies.items()})
        wanted = self._averages_of(tree)
        return from_flat({name: jnp.zeros(s.shape, s.dtype) for name, s in wanted.items()})

    def apply(
        self,
        averages: Mapping[str, Any],
        tree: Mapping[str, Any],
        *,
        num_updates: ArrayLike | None = None,
    ) -> VarTree:
        """The next averages; no argument is changed.

        Args:
            averages: What `init`, or the `apply` before, returned.
            tree: The variables' values now; the same names, shapes and dtypes as in `init`.
            num_updates: The number of updates so far, such as the step; an integer or an array.

        Raises:
            TreeMismatchError: If ``averages`` are not those of this tree; all differences are
                listed.
            DtypeMismatchError: If a value is not half, float or double; all such are listed.
        """
        tree, averages = _floats(tree), as_tree(averages)
        self._check(averages, tree)
        rate = self._rate(num_updates)
        changed: dict[str, Array] = {}
        for name, value in tree.items():
            average = self.average_name(name)
            if self.zero_debias:
                changed |= _debiased(average, averages, value, rate)
            else:
                changed[average] = _toward(averages[average], value, rate)
        return from_flat(changed)

    def average(self, averages: Mapping[str, Any]) -> VarTree:
        """The averages under the names of what they are averages of.

        Evaluation takes them instead of the parameters:

        >>> model(js.Scope(params | ema.average(averages), state), x)  # doctest: +SKIP

        Args:
            averages: What `init` or `apply` returned; or a larger tree that has them, such as a
                restored one.

        Raises:
            MissingVariableError: If there is no average.
        """
        averages = as_tree(averages)
        suffix = f"/{self.name}"
        found = {n.removesuffix(suffix): v for n, v in averages.items() if n.endswith(suffix)}
        if not found:
            raise MissingVariableError(
                f"No name ends with {suffix!r} ({near(self.name, averages)}). Averages are what "
                f"ema.init(params) and ema.apply(averages, params) return; their last component is "
                "the `name` that was given to ExponentialMovingAverage."
            )
        return from_flat(found)

    def variables_to_restore(
        self,
        declared: Mapping[str, VariableSpec],
        moving_average_variables: Selector | None = None,
    ) -> dict[str, str]:
        """Which stored value goes into which variable, so that parameters get their averages.

        >>> def model(scope):
        ...     scope.get_variable("w", (2,))
        ...     scope.get_variable("step", (), jnp.int32, trainable=False)
        >>> js.ExponentialMovingAverage(0.9).variables_to_restore(js.declare(model)())
        {'w/ExponentialMovingAverage': 'w', 'step': 'step'}

        Args:
            declared: The model's declaration.
            moving_average_variables: Which variables have averages. Default: the trainable ones,
                and those in the collection ``"moving_average_variables"``.

        Returns:
            ``{name in the checkpoint: the variable's name}``, in order of declaration. Other
            variables are in it if they are in the collection ``"variables"``; local ones aren't.

        Raises:
            SelectorError: If ``moving_average_variables`` matches nothing.
        """
        if moving_average_variables is None:
            key = GraphKeys.MOVING_AVERAGE_VARIABLES
            averaged = {n for n, s in declared.items() if s.trainable or key in s.collections}
        else:
            averaged = set(
                matching(
                    declared,
                    moving_average_variables,
                    hint="Leave moving_average_variables= out for the trainable variables.",
                )
            )
        stored = {n: self.average_name(n) for n in averaged} | {
            n: n
            for n, s in declared.items()
            if n not in averaged and GraphKeys.GLOBAL_VARIABLES in s.collections
        }
        return {stored[name]: name for name in declared if name in stored}

    def _rate(self, num_updates: ArrayLike | None) -> Array:
        """$1 - d$ in float32, as TF takes it."""
        decay = jnp.asarray(self.decay, jnp.float32)
        if num_updates is not None:
            n = jnp.asarray(num_updates).astype(jnp.float32)
            decay = jnp.minimum(decay, (1 + n) / (10 + n))
        return 1 - decay

    def _averages_of(self, tree: VarTree) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes and dtypes of all that is kept for a tree."""
        kept = {}
        for name, value in tree.items():
            average = self.average_name(name)
            kept[average] = jax.ShapeDtypeStruct(np.shape(value), value.dtype)
            if self.zero_debias:
                kept[f"{average}/biased"] = kept[average]
                kept[f"{average}/local_step"] = jax.ShapeDtypeStruct((), _step_dtype(value.dtype))
        return kept

    def _check(self, averages: VarTree, tree: VarTree) -> None:
        kept = self._averages_of(tree)
        lines = differences(kept, averages, "expected for `tree`", "in `averages`")
        if lines:
            raise TreeMismatchError(
                f"`averages` are not those of `tree`, in {len(lines)} "
                f"place{'s' * (len(lines) > 1)}:\n"
                + "\n".join(f"  {line}" for line in lines)
                + "\nBegin with averages = ema.init(params), and average the same variables each "
                "time: ema.apply(averages, js.select(tree, ...))."
            )


def _toward(average: Array, value: Array, rate: Array) -> Array:
    """An average, moved toward a value."""
    return average - (average - value) * rate.astype(average.dtype)


def _debiased(average: str, averages: VarTree, value: Array, rate: Array) -> dict[str, Array]:
    """TF's ``_zero_debias``: the average, and the two variables that it keeps for it."""
    biased = _toward(averages[f"{average}/biased"], value, rate)
    step = averages[f"{average}/local_step"] + 1
    wide = step.dtype
    factor = 1 - (1 - rate.astype(wide)) ** step
    shown = (biased.astype(wide) / factor).astype(biased.dtype)
    return {average: shown, f"{average}/biased": biased, f"{average}/local_step": step}


def _step_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which an average counts its steps: float32 at least."""
    return np.promote_types(dtype, np.float32)


def _floats(tree: Mapping[str, Any]) -> VarTree:
    """The variables to average, if all are half, float or double."""
    tree = as_tree(tree)
    others = [n for n, v in tree.items() if str(getattr(v, "dtype", "no dtype")) not in _FLOATS]
    if others:
        first = tree[others[0]]
        raise DtypeMismatchError(
            f"The variables must be half, float, or double: {', '.join(others)} (the first is of "
            f"{getattr(first, 'dtype', type(first).__name__)}). Average the parameters alone: "
            "params, state = declared.split(variables)."
        )
    return tree
