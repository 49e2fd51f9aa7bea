"""``tf.train.warm_start`` and slim's ``assign_from_checkpoint_fn``: TF1's checkpoints into trees.

Without vocabularies `interop.tensorflow.restore` does the same, and more. A vocabulary is a file
with one entry in each line: a row, or column, of a variable belongs to the entry of its number.
"""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import formats, tf_checkpoint
from .._errors import (
    CheckpointNotFoundError,
    CheckpointValueError,
    CheckpointWarning,
    SelectorError,
    TreeMismatchError,
    listed,
    near,
)
from .._model.declaration import Declaration
from .._names.assignment import AssignmentMap
from .._random.keys import variable_key
from .._tree.vartree import VarTree, as_tree, from_flat
from ..initializers import Initializer
from ..interop import tensorflow
from ..interop._named import named

Path = str | os.PathLike[str]
Values = np.ndarray[Any, Any]


class VocabInfo(NamedTuple):
    """How the rows, or columns, of a variable move to a new vocabulary.

    Attributes:
        new_vocab: The file of the new vocabulary.
        new_vocab_size: How many of its entries the variable has.
        num_oov_buckets: How many rows there are behind them, for what isn't in the vocabulary.
        old_vocab: The file of the vocabulary of the checkpoint.
        old_vocab_size: How many of its entries count. Default: all.
        backup_initializer: Gives the rows of new entries and buckets, with the shape of the
            whole variable. Default: zeros.
        axis: 0 for rows, 1 for columns.

    Source: ``tf.train.VocabInfo``. Differences: a variable may have one axis, or more than two;
        the initializer gets the shape of the whole variable, where TF1's gets that of the part;
        ``old_vocab_size`` counts for columns too, where TF1 reads the whole file.
    """

    new_vocab: Path
    new_vocab_size: int
    num_oov_buckets: int
    old_vocab: Path
    old_vocab_size: int = -1
    backup_initializer: Initializer | None = None
    axis: int = 0


def warm_start(
    target: Declaration | Mapping[str, Any],
    ckpt_to_initialize_from: Path,
    vars_to_warm_start: str | Sequence[str] | None = ".*",
    var_name_to_vocab_info: Mapping[str, VocabInfo] | None = None,
    var_name_to_prev_var_name: Mapping[str, str] | None = None,
    *,
    key: jax.Array | None = None,
) -> VarTree:
    """Values of a checkpoint in place of initial values.

    >>> tree = js.tf1.warm_start(  # doctest: +SKIP
    ...     declared,
    ...     "old/model.ckpt-1000",
    ...     "encoder/.*",
    ...     {"encoder/embeddings": js.tf1.VocabInfo("new.txt", 5000, 1, "old.txt")},
    ...     key=jax.random.key(0),
    ... )

    Args:
        target: A declaration, or a tree of values.
        ckpt_to_initialize_from: A checkpoint of TensorFlow's; as for `tf_checkpoint.open`.
        vars_to_warm_start: A regular expression, which is matched (`re.match`) with the names of
            trainable variables, of which a tree knows nothing; or a list of such, for all
            variables; or None, for those with vocabularies only. As in TF1, a name ends with
            ``":0"`` where it is matched. Each must match a name.
        var_name_to_vocab_info: For variables by name.
        var_name_to_prev_var_name: Names in the checkpoint, where they differ.
        key: For initial values, if the target is a declaration, and for backup initializers.

    Returns:
        A tree with all variables of the target.

    Raises:
        ValueError: If ``vars_to_warm_start`` is neither; if a name in one of the mappings isn't
            among the variables that are warm-started; or if a vocabulary and a variable differ.
        SelectorError: If an expression is not a regular one, or matches no name.
        CheckpointNotFoundError: If there is no such checkpoint, or no such file of a vocabulary.
        MissingVariableError, TreeMismatchError: If the checkpoint lacks a variable, or it
            has another shape or dtype.
        CheckpointValueError: If a key is missing.

    Source: ``tf.train.warm_start``. Differences: the tree is a result; an expression that matches
        nothing is an error.
    """
    infos = dict(var_name_to_vocab_info or {})
    saved = dict(var_name_to_prev_var_name or {})
    for name, info in infos.items():
        _check_vocab(name, info)
    chosen = _chosen(target, vars_to_warm_start)
    _check_used("var_name_to_prev_var_name", saved, chosen)
    _check_used("var_name_to_vocab_info", infos, chosen)
    start = _start(target, key)
    plain = [] if vars_to_warm_start is None else [name for name in chosen if name not in infos]
    read: dict[str, list[str]] = {}  # from saved names
    for name in plain:
        source = saved.get(name, name)
        read.setdefault(source, []).append(name)
    sources = {source: names[0] for source, names in read.items()}
    _check_saved(ckpt_to_initialize_from, sources, "leave it out of vars_to_warm_start")
    moved = {
        name: _moved(name, start[name], saved.get(name, name), ckpt_to_initialize_from, info, key)
        for name, info in infos.items()
    }
    tree = from_flat({**start, **moved})
    if not read:
        return tree
    saved_to: AssignmentMap = {source: tuple(names) for source, names in read.items()}
    tree, _ = tensorflow.restore(tree, ckpt_to_initialize_from, saved_to, unexpected="ignore")
    return tree


def _chosen(
    target: Declaration | Mapping[str, Any], patterns: str | Sequence[str] | None
) -> list[str]:
    """The names that are warm-started, in order."""
    if not (patterns is None or isinstance(patterns, str | list | tuple)):
        raise ValueError(
            f"`vars_to_warm_start must be a `list` or `str`.  Given type is {type(patterns)}"
        )
    if isinstance(patterns, list | tuple) and not all(isinstance(p, str) for p in patterns):
        raise ValueError(
            "If `vars_to_warm_start` is a list, it must be all `str`, regular expressions of "
            f"names.  Given types are {[type(p) for p in patterns]}"
        )
    names = list(target)
    if isinstance(target, Declaration) and not isinstance(patterns, list | tuple):
        names = list(target.trainable_variables())
    if patterns is None:
        return names
    several = [patterns] if isinstance(patterns, str) else patterns
    matched = {name for pattern in several for name in _matched(pattern, names)}
    return [name for name in names if name in matched]


def _matched(pattern: str, names: Sequence[str]) -> list[str]:
    """The names to warm-start that a regular expression matches: at least one, if there are any."""
    try:
        found = [name for name in names if re.match(pattern, f"{name}:0")]
    except re.error as error:
        raise SelectorError(
            f"`vars_to_warm_start` {pattern!r} is not a regular expression: {error}. For a name "
            "as it is, write re.escape(name)."
        ) from None
    if names and not found:
        raise SelectorError(
            f"`vars_to_warm_start` {pattern!r} matches none of the {len(names)} variables "
            f"({near(pattern, list(names))}), so nothing would be warm-started. It is a regular "
            "expression, matched from the beginning of the name. For variables with vocabularies "
            "only, write vars_to_warm_start=None."
        )
    return found


def _check_saved(path: Path, sources: Mapping[str, str], instead: str) -> None:
    """Raise if a checkpoint lacks one of the variables to warm-start from, by its names."""
    there = _names_in(path) if sources else {}
    missing = [name for name in sources if name not in there]
    if missing:
        first = missing[0]
        raise TreeMismatchError(
            f"The checkpoint {os.fspath(path)} lacks {listed(missing)}, from which "
            f"{sources[first]!r} was to be read ({near(first, there)}). If it has another name "
            f"there, map it; if it is new, {instead}."
        )


def _names_in(path: Path) -> dict[str, None]:
    """The names by which a checkpoint has variables to warm-start from."""
    source, aliases = named(formats.open(path), None, None)
    return dict.fromkeys((*source.entries, *aliases))


def _check_used(argument: str, given: Mapping[str, object], chosen: Iterable[str]) -> None:
    """Raise if an argument is for variables that are not warm-started."""
    unused = [name for name in given if name not in chosen]
    if unused:
        raise ValueError(
            f"You provided the following variables in {argument} that were not used: "
            f"{listed(unused)}.  Perhaps you misspelled them?  ({near(unused[0], list(chosen))}) "
            "Only variables that `vars_to_warm_start` picks are warm-started."
        )


def _start(target: Declaration | Mapping[str, Any], key: jax.Array | None) -> VarTree:
    """The tree to warm-start: the target, or initial values of a declaration."""
    if not isinstance(target, Declaration):
        return as_tree(target)
    if key is None:
        raise CheckpointValueError(
            "warm_start of a declaration needs key=jax.random.key(0), or another, for the "
            "initial values of the other variables. Or pass a tree of values."
        )
    return target.init(key)


def _check_vocab(name: str, info: VocabInfo) -> None:
    """Raise unless a `VocabInfo` is complete."""
    if info.axis not in (0, 1):
        raise ValueError(
            "The only supported values for the axis argument are 0 and 1.  Provided axis: "
            f"{info.axis}, for {name!r}."
        )
    if not (info.new_vocab and info.new_vocab_size and info.old_vocab):
        raise ValueError(
            f"Variable {name!r}: Must provide all of new_vocab, new_vocab_size and old_vocab, got "
            f"{info}."
        )
    least = {"new_vocab_size": 1, "num_oov_buckets": 0, "old_vocab_size": -1}
    for field, smallest in least.items():
        size = getattr(info, field)
        if size < smallest:
            raise ValueError(
                f"Variable {name!r}: {field} of VocabInfo must be at least {smallest}, got {size}."
            )


def _moved(
    name: str, value: Any, saved: str, path: Path, info: VocabInfo, key: jax.Array | None
) -> jax.Array:
    """A variable's value: old rows where the new vocabulary has them, others elsewhere."""
    old = tf_checkpoint.load_variable(path, saved)
    new = _entries(info.new_vocab, info.new_vocab_size, name)
    known = _entries(info.old_vocab, info.old_vocab_size, name)
    _check_shapes(name, value, old, info, len(known))
    row_of = {entry: row for row, entry in reversed(list(enumerate(known)))}
    pairs = [(to, row_of[entry]) for to, entry in enumerate(new) if entry in row_of]
    result = np.moveaxis(_backup(name, value, info, key), info.axis, 0)
    if pairs:
        to, source = np.array(pairs).T
        result[to] = np.moveaxis(old, info.axis, 0)[source]
    return jax.numpy.asarray(np.moveaxis(result, 0, info.axis))


def _entries(path: Path, size: int, name: str) -> list[str]:
    """The first lines of a vocabulary file."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.rstrip("\r\n") for line in file]
    except FileNotFoundError:
        raise CheckpointNotFoundError(
            f"Variable {name!r}: there is no vocabulary file {os.fspath(path)}, which its "
            "VocabInfo names. Relative paths are those of the working directory."
        ) from None
    if size > len(lines):
        raise ValueError(
            f"Variable {name!r}: the vocabulary {os.fspath(path)} has {len(lines)} entries, but "
            f"its size is given as {size}."
        )
    return lines if size < 0 else lines[:size]


def _check_shapes(name: str, value: Any, old: Values, info: VocabInfo, known: int) -> None:
    """Raise if a variable to warm-start does not have the shape that its vocabularies give."""
    axis, shape = info.axis, tuple(value.shape)
    rows = info.new_vocab_size + info.num_oov_buckets
    if len(shape) <= axis or shape[axis] != rows:
        raise TreeMismatchError(
            f"Variable {name!r} of shape {shape} has another size along axis {axis} than "
            f"new_vocab_size and num_oov_buckets give together, which is {rows}."
        )
    others = [tuple(np.delete(s, axis)) for s in (shape, old.shape) if len(s) > axis]
    if len(others) < 2 or others[0] != others[1] or old.shape[axis] < known:
        raise TreeMismatchError(
            f"Variable {name!r} of shape {shape} and {old.shape} in the checkpoint must agree in "
            f"all axes but {axis}, where the checkpoint's has a row for each of the {known} "
            "entries of the old vocabulary. If only the first ones count, give old_vocab_size."
        )


def _backup(name: str, value: Any, info: VocabInfo, key: jax.Array | None) -> Values:
    """The whole initial value of which a warm-started variable's new entries keep their parts."""
    if info.backup_initializer is None:
        return np.zeros(value.shape, value.dtype)
    if key is None:
        raise CheckpointValueError(
            f"The backup_initializer of {name!r} needs key=jax.random.key(0), or another."
        )
    made = info.backup_initializer(variable_key(key, name), tuple(value.shape), value.dtype)
    return np.array(made)


def assign_from_checkpoint_fn(
    model_path: Path,
    var_list: Sequence[str] | Mapping[str, str],
    ignore_missing_vars: bool = False,
    reshape_variables: bool = False,
) -> Callable[[Mapping[str, Any]], VarTree] | None:
    """A function that warm-starts a tree with a checkpoint's values, such as an ``init_fn``.

    >>> init_fn = js.tf1.assign_from_checkpoint_fn("resnet.ckpt", names)  # doctest: +SKIP
    >>> tree = init_fn(declared.init(key))  # doctest: +SKIP

    Args:
        model_path: A checkpoint of TensorFlow's; as for `tf_checkpoint.open`.
        var_list: Names of variables; or from names in the checkpoint to those in the tree.
        ignore_missing_vars: Whether names that the checkpoint lacks keep their values.
        reshape_variables: Whether values with as many elements are reshaped.

    Returns:
        The function; or None, with a warning, if none of the variables is in the checkpoint.

    Raises:
        ValueError: If ``var_list`` is empty, or is not of names.

    And from calls: TreeMismatchError, if names, shapes or dtypes differ.

    Source: ``tf.contrib.framework.assign_from_checkpoint_fn``.
    """
    if not var_list:
        raise ValueError("var_list cannot be empty")
    names = _names_of(var_list)
    if ignore_missing_vars:
        there = _names_in(model_path)
        missing = [name for name in names if name not in there]
        if missing:
            warnings.warn(
                f"The checkpoint {os.fspath(model_path)} lacks {listed(missing)}, which keep their "
                "values.",
                CheckpointWarning,
                stacklevel=2,
            )
        names = {saved: name for saved, name in names.items() if saved not in missing}
        if not names:
            return None

    def assigned(tree: Mapping[str, Any]) -> VarTree:
        _check_saved(model_path, names, "write ignore_missing_vars=True to keep its value")
        target = as_tree(tree)
        targets: AssignmentMap = {
            saved: tensorflow.Through(name, _reshaping(target[name].shape))
            if reshape_variables
            else name
            for saved, name in names.items()
        }
        return tensorflow.restore(target, model_path, targets, unexpected="ignore")[0]

    return assigned


def _names_of(var_list: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """The names of variables to warm-start, by those in the checkpoint."""
    if isinstance(var_list, str):
        raise ValueError(
            f"`var_list` is a list of names, or a dict from saved names to names, got the string "
            f"{var_list!r}. Write [{var_list!r}]."
        )
    names = dict(var_list) if isinstance(var_list, Mapping) else {n: n for n in var_list}
    others = {type(name).__name__ for name in names.values() if not isinstance(name, str)}
    if others:
        raise ValueError(
            f"`var_list` is a list of names, or a dict from saved names to names, got a "
            f"{type(var_list).__name__} from names to {', '.join(sorted(others))}. Write "
            "list(declared) for the names of a declaration, and list(tree) for those of a tree."
        )
    return names


def _reshaping(shape: Sequence[int]) -> Callable[[Values], Values]:
    """A function that warm-starts a variable of this shape with a value of another shape."""

    def reshaped(value: Values) -> Values:
        return value.reshape(tuple(shape)) if value.size == np.prod(shape) else value

    return reshaped
