"""The names of a checkpoint's variables, and which variable is read for which name."""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .. import tf_checkpoint
from .._errors import CheckpointValueError, near
from .._names.names import DEBIASING
from .._names.selectors import Selector, matching

_KEY_ENDING = "/.ATTRIBUTES/VARIABLE_VALUE"

# The optimizers of TF1 and of its contrib, and what BERT's and T5's own call their slots.
_OPTIMIZERS = (
    "Adadelta Adafactor Adagrad AdagradDA Adam AdaMax AdamW AdamWeightDecayOptimizer Ftrl LAMB "
    "LARSOptimizer Momentum NadamOptimizer ProximalAdagrad RMSProp adam_m adam_v "
    "SlotVariable/slot_v[rc]? slot_v[rc]?"
)
SLOTS = re.compile(
    rf"/(?:{'|'.join(_OPTIMIZERS.split())})(?:_\d+)?$"
    r"|(?:^|/)beta[12]_power(?:_\d+)?$"
    r"|^global_step$"
    r"|/\.OPTIMIZER_SLOT/"
)


@dataclass(frozen=True)
class Named:
    """An opened checkpoint.

    Attributes:
        path: What the names of its files begin with.
        entries: The variables that can be in a tree, by name: strings, which no array of JAX
            holds, are left out.
        read_from: The key of each name.
        aliases: Other spellings of a name.
    """

    path: str
    entries: Mapping[str, tf_checkpoint.Entry]
    read_from: Mapping[str, str]
    aliases: Mapping[str, str]


def open_named(
    path: str | os.PathLike[str],
    drop: Selector | None,
    averages: str | None,
    verify: bool,
    wanted: Collection[str] = (),
) -> Named:
    """Open a checkpoint, and call its variables as a tree would.

    In an object-based checkpoint, a variable that has a full name of its own is called by it,
    the others by their keys without the ending ``/.ATTRIBUTES/VARIABLE_VALUE``.

    Args:
        path: As for `tf_checkpoint.open`.
        drop: Names to leave out. `SLOTS` leave out none that is wanted: a model may declare a
            variable ``global_step``.
        averages: If given, ``w`` is read from ``w/averages`` where there is one.
        verify: As for `tf_checkpoint.open`.
        wanted: The names that a target has.

    Raises:
        CheckpointValueError: If there is no average of this name at all.
        CheckpointError: As `tf_checkpoint.open`.
    """
    checkpoint = tf_checkpoint.open(path, verify=verify)
    full = {key: name for name, key in checkpoint.full_names.items()}
    names: dict[str, str] = {}
    aliases: dict[str, str] = {}
    for key, entry in checkpoint.items():
        if entry.dtype != object:
            name = full.get(key, key.removesuffix(_KEY_ENDING))
            names[name] = key
            aliases |= {key: name, key.removesuffix(_KEY_ENDING): name}
    if drop is not None:
        entries = {name: checkpoint[key] for name, key in names.items()}
        for name in _dropped(entries, drop, wanted):
            del names[name]
    if averages is not None:
        names = _with_averages(names, averages, checkpoint.prefix)
    return Named(
        checkpoint.prefix,
        {name: checkpoint[key] for name, key in names.items()},
        names,
        {alias: name for alias, name in aliases.items() if name in names and alias not in names},
    )


def _dropped(
    entries: Mapping[str, object], drop: Selector, wanted: Collection[str]
) -> frozenset[str]:
    if isinstance(drop, list | tuple):
        return frozenset().union(*(_dropped(entries, part, wanted) for part in drop))
    names = matching(entries, drop, allow_empty=True)
    return names.difference(wanted) if drop is SLOTS else names


def _with_averages(names: Mapping[str, str], averages: str, path: str) -> dict[str, str]:
    """Without the averages' own names, and what ``zero_debias`` keeps below them."""
    ending = f"/{averages}"
    averaged = [name.removesuffix(ending) for name in names if name.endswith(ending)]
    if not averaged:
        last = sorted({name.rpartition("/")[2] for name in names})
        raise CheckpointValueError(
            f"No variable in {path} is called '.../{averages}' ({near(averages, last)}). Leave "
            "averages= out, or give the name that tf.train.ExponentialMovingAverage had."
        )
    own = {name + ending for name in averaged}
    debias = {f"{name}{ending}/{what}" for name in averaged for what in DEBIASING}
    kept = {name: key for name, key in names.items() if name not in own | debias}
    return kept | {name: names[name + ending] for name in averaged}
