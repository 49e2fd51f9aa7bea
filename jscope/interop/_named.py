"""The names of a TensorFlow checkpoint's variables, and which variable is read for which name."""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from .. import tf_checkpoint
from .._errors import CheckpointError, CheckpointValueError, near
from .._names.names import DEBIASING
from .._names.selectors import Selector, matching
from ..formats._source import FileSource, Source

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


class Named(NamedTuple):
    """A TensorFlow checkpoint under the names that a tree has.

    Attributes:
        source: Its variables, by name: without strings, which no array of JAX holds.
        aliases: Other spellings of a name.
    """

    source: FileSource
    aliases: Mapping[str, str]


def named(
    source: Source, drop: Selector | None, averages: str | None, wanted: Collection[str] = ()
) -> Named:
    """Name the variables of a TensorFlow checkpoint as a tree would.

    In an object-based checkpoint, a variable that has a full name of its own is called by it,
    the others by their keys without the ending ``/.ATTRIBUTES/VARIABLE_VALUE``.

    Args:
        source: The checkpoint.
        drop: Names to leave out. `SLOTS` leave out none that is wanted: a model may declare a
            variable ``global_step``.
        averages: If given, ``w`` is read from ``w/averages`` where there is one.
        wanted: The names that a target has.

    Raises:
        CheckpointValueError: If there is no average of this name at all.
        CheckpointError: If TensorFlow did not write it, or its graph of objects is damaged.
    """
    found = _of_tensorflow(source)
    full = {key: name for name, key in found.full_names.items()}
    names = {full.get(key, _short_key(key)): key for key in source.entries}
    pairs = [(alias, name) for name, key in names.items() for alias in (key, _short_key(key))]
    if drop is not None:
        for name in _dropped({name: found[key] for name, key in names.items()}, drop, wanted):
            del names[name]
    if averages is not None:
        names = _with_averages(names, averages, found.prefix)
    variables = {name: found[key] for name, key in names.items()}
    return Named(
        FileSource(source.path, variables, format=source.format, checksum=source.checksum),
        {alias: n for alias, n in pairs if n in names and alias not in names},
    )


def _short_key(key: str) -> str:
    """The name that a key of an object-based checkpoint gives to a variable: without its ending."""
    return key.removesuffix(_KEY_ENDING)


def _of_tensorflow(source: Source) -> tf_checkpoint.Checkpoint:
    """The TensorFlow checkpoint of a source whose variables are to be named; no other is taken."""
    if isinstance(source, FileSource) and isinstance(source.variables, tf_checkpoint.Checkpoint):
        return source.variables
    raise CheckpointError(
        f"{source.path} is not a checkpoint of TensorFlow. This is there: {source.format}. Write "
        f"js.Saver({str(source.path)!r}).restore(target), whose rename= takes a map, too."
    )


def _dropped(
    entries: Mapping[str, object], drop: Selector, wanted: Collection[str]
) -> frozenset[str]:
    """The names of a TensorFlow checkpoint's variables that ``drop`` leaves out for a tree."""
    if isinstance(drop, list | tuple):
        return frozenset().union(*(_dropped(entries, part, wanted) for part in drop))
    names = matching(entries, drop, allow_empty=True)
    return names.difference(wanted) if drop is SLOTS else names


def _with_averages(names: Mapping[str, str], averages: str, path: str) -> dict[str, str]:
    """Name the averages in a TensorFlow checkpoint as the variables that they are read for."""
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
