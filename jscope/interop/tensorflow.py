"""TensorFlow's checkpoints and jscope's trees, without TensorFlow.

`load` reads a checkpoint as a tree, `restore` reads it into a model's variables under other
names, and `export` writes a tree as a checkpoint that TensorFlow restores.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .. import formats, tf_checkpoint
from .._errors import CheckpointValueError, VariableNameError
from .._model.declaration import Declaration
from .._names.assignment import AssignmentMap, check_map, read_rules
from .._names.assignment import Through as Through
from .._names.names import check
from .._names.selectors import Selector
from .._names.tf1 import no_attribute, public
from .._stores.paths import located
from .._tree.selection import select as select_from
from .._tree.values import value_text
from .._tree.vartree import VarTree, as_tree, from_flat
from ..saver._comparison import Policy
from ..saver._plan import Report as Report
from ..saver._plan import Request
from ..saver._restore import restore as restore_request
from ..sharding import AnyMesh, Rules
from ..tf_checkpoint._dtypes import NUMBERS
from ._assignment import ALL, Assignment
from ._export import ExportedNames, add_by_rules, tree_of, value_of, why_not_here
from ._export import check as check_export
from ._named import SLOTS as SLOTS
from ._named import named


def load(
    path: str | os.PathLike[str],
    *,
    select: Selector | None = None,
    drop: Selector | None = None,
    rename: Callable[[str], str] | None = None,
    averages: str | None = None,
    verify: bool = True,
) -> VarTree:
    """Read a TensorFlow checkpoint as a tree, under its own names.

    >>> variables = tensorflow.load("bert_model.ckpt", drop=tensorflow.SLOTS)  # doctest: +SKIP
    >>> variables = tensorflow.load("model.ckpt-1000", select="encoder/**")    # doctest: +SKIP

    Strings, which no array of JAX holds, are left out; `tf_checkpoint.open` reads them. In an
    object-based checkpoint (``tf.train.Checkpoint``, Keras) a variable that has a full name of
    its own, such as ``dense/kernel``, is called by it, and the others by their keys without the
    ending ``/.ATTRIBUTES/VARIABLE_VALUE``.

    Args:
        path: A prefix such as ``"model.ckpt-1000"``, a directory, a SavedModel or one of the
            files; as for `tf_checkpoint.open`.
        select: Which variables to read; the others cost nothing.
        drop: Which to leave out; it may match nothing. `SLOTS` are optimizers' slots, and
            ``global_step``.
        rename: From each name to the tree's; for names that are not legal in jscope.
        averages: The name that a ``tf.train.ExponentialMovingAverage`` has, by default
            ``"ExponentialMovingAverage"``: a variable ``w`` is read from its average
            ``w/ExponentialMovingAverage``, if it has one.
        verify: Whether to compare checksums.

    Returns:
        A tree of NumPy arrays, with the checkpoint's dtypes, 64-bit ones too.

    Raises:
        VariableNameError: If names are not legal; all are listed.
        SelectorError: If ``select`` matches nothing.
        CheckpointError: If the checkpoint is not there, or damaged.
    """
    if not (rename is None or callable(rename)):
        raise CheckpointValueError(
            f"`rename` is a function from each name to the tree's, got {rename!r}. For a dict "
            "write js.rename(tensorflow.load(path), {'old': 'new'})."
        )
    source, _ = named(formats.open(path, verify=verify), drop, averages)
    names = {name: name if rename is None else rename(name) for name in source.entries}
    illegal = [text for name in names.values() if (text := _wrong_name(name))]
    if illegal:
        shown = "\n  ".join(illegal[:10])
        raise VariableNameError(
            f"{len(illegal)} names in {source.path} are not legal in jscope:\n  {shown}\n"
            "Give rename=, a function from each name to a legal one, or leave them out by drop=."
        )
    tree = from_flat({new: source.variables[old] for old, new in names.items()})
    chosen = tree if select is None else select_from(tree, select)
    return from_flat({name: np.array(entry.read()) for name, entry in chosen.items()})


def _wrong_name(name: str) -> str:
    """Why the name in a TensorFlow checkpoint can't be a variable's; empty if it can."""
    try:
        check(name)
    except VariableNameError as error:
        return str(error)
    return ""


def restore(
    target: Mapping[str, Any],
    path: str | os.PathLike[str],
    assignment_map: AssignmentMap = ALL,
    *,
    select: Selector | None = None,
    drop: Selector | None = None,
    averages: str | None = None,
    stacks: Iterable[str] = (),
    missing: str = "error",
    unexpected: str = "error",
    convert: bool = False,
    key: jax.Array | None = None,
    mesh: AnyMesh | None = None,
    rules: Rules = (),
    verify: bool = True,
) -> tuple[VarTree, Report]:
    r"""Read a TensorFlow checkpoint into the variables of a model.

    >>> variables, report = tensorflow.restore(                            # doctest: +SKIP
    ...     declared,
    ...     "bert_model.ckpt",
    ...     {"bert/": "encoder/", "bert/encoder/layer_*/": "encoder/layers/*/"},
    ...     drop=tensorflow.SLOTS,
    ...     key=jax.random.key(0),  # initial values for variables that the map does not name
    ... )

    The map's entries go from the checkpoint's names to the target's:

    ======================================  ==================================================
    ``"bert/": "encoder/"``                 all below a scope, to below another
    ``"/": "model/"``, ``"model/": "/"``    the same; ``/`` is the root
    ``"bert/pooler/w": "pooler/w"``         one variable
    ``"layer_*/": "layers/*/"``             scopes or names with ``*``, the same on both sides
    ``re.compile(r"(.*)/w"): r"\1/kernel"`` whole names by a regular expression
    ``"embed/w": ("embed/w", "head/w")``    into several variables, which share what is saved
    ======================================  ==================================================

    On the right there may be ``js.Through(name, function)`` instead of a name: values go
    through the function, such as ``np.transpose``. Where two entries give one variable, the more
    specific decides: a name, then the longer right side, then the first regular expression.

    Each variable below a scope on the right must be there in the checkpoint, and each below a
    scope on the left in the target; all differences are in one error, after those of the map
    itself. Variables that the map does not name keep their values: that is the one difference
    from ``rename=`` of `Saver.restore`, which does the rest.

    The processes of a program restore together, as by `Saver.restore`: all call it.

    **Stacks.** What `Scope.stacked` declares is one variable with a leading axis in the target,
    and one for each slice in the checkpoint. The slices' names are those that `jscope.unstack`
    gives, ``layers/0/w``, ``layers/1/w``, ...: assign to them, or to ``layers/w`` as a whole.

    Args:
        target: A declaration, or a tree of arrays or of `jax.ShapeDtypeStruct`: names, shapes,
            dtypes, and where each array is to be.
        path: As for `load`.
        assignment_map: The map; by default all variables, under their own names.
        select: Which variables of the target to restore; the others keep their values, and
            names of the checkpoint that it would not pick are not compared.
        drop: Which of the checkpoint's variables to leave out, as for `load`. `SLOTS` leave out
            none that the target has, or that the map names.
        averages: As for `load`.
        stacks: The scopes of a tree that are stacks; a declaration knows its own.
        missing: What to do about a variable that the checkpoint lacks: ``"error"``, ``"keep"`` its
            value, or ``"init"`` by the declaration.
        unexpected: What is done about variables that only the checkpoint has: ``"error"``, or
            ``"ignore"``.
        convert: Whether to cast to the target's dtypes, from bool to integer, floating-point and
            complex ones or within one of these; only floating-point numbers are rounded. A value
            that a dtype can't hold is an error, as in `Saver.restore`.
        key: For a declaration's initial values, of all that would be left without a value.
        mesh: What a declaration's variables are laid out over, as for `Declaration.init`.
        rules: As for `Declaration.init`.
        verify: Whether to compare checksums.

    Returns:
        The tree, of the target's names; and the report, as `Saver.report`, of what was restored
        from what, kept, initialized, and ignored in the checkpoint.

    Raises:
        TreeMismatchError: If names, shapes or dtypes differ, a rule is about nothing, or a dtype
            can't hold a value.
        CheckpointValueError: If an argument is invalid, or a variable would have no value.
        SelectorError: If ``select`` matches nothing.
        CheckpointError: If the checkpoint is not there, or damaged.

    Source:
        ``tf.train.init_from_checkpoint``, TensorFlow 1.15,
        ``python/training/checkpoint_utils.py``. Differences: TF replaces initializers, and shows
        values only when those run; ignores what only the checkpoint has, and a scope that
        matches nothing; wants slashes behind scopes, where here they may be left out if the
        meaning is clear; compares dtypes when it runs only. It has no stars, regular expressions,
        functions or stacks.
    """
    request = Request(
        target if isinstance(target, Declaration) else as_tree(target),
        select=select,
        naming=Assignment(assignment_map, drop, averages),
        stacks=stacks,
        policy=Policy(missing, unexpected, convert),
        key=key,
        mesh=mesh,
        rules=rules,
        verify=verify,
    )
    return restore_request(located(path), path, request)


def export(
    tree: Mapping[str, Any],
    path: str | os.PathLike[str],
    assignment_map: AssignmentMap = ALL,
    *,
    stacks: Iterable[str] = (),
    write_state: bool = True,
    overwrite: bool = False,
) -> str:
    """Write a tree as a TensorFlow checkpoint; the inverse of `restore`.

    >>> tensorflow.export(                                                 # doctest: +SKIP
    ...     variables,
    ...     "tuned/model.ckpt-2000",
    ...     {"bert/": "encoder/", "bert/encoder/layer_*/": "encoder/layers/*/"},
    ...     stacks=["encoder/layers"],
    ... )
    'tuned/model.ckpt-2000'

    The files are those that ``tf.train.Saver`` writes, byte for byte, and appear at once.

    Args:
        tree: A tree of values.
        path: The prefix of the new files; see `tf_checkpoint.write`.
        assignment_map: As for `restore`, from the checkpoint's names to the tree's: here it is
            read from right to left. Each variable must be named, and not by a regular
            expression alone; a `Through` needs its inverse. Several rules that are equally
            specific each give a variable a name, under all of which it is written.
        stacks: The scopes that are stacks; they are written slice by slice.
        write_state: Whether to make this the latest in the file ``checkpoint`` of its folder.
        overwrite: Whether to replace a checkpoint of this prefix; see `tf_checkpoint.Writer`.

    Returns:
        The prefix.

    Raises:
        CheckpointValueError: If a variable has no name, two have one, or TensorFlow lacks a dtype;
            all are listed, and nothing is written.
        CheckpointExistsError: If there is a checkpoint already, or the path is a directory.
        CheckpointError: If the files can't be written.
    """
    check_map(assignment_map)
    whole = tree_of(tree, stacks)
    rules = read_rules(assignment_map, (), whole.names)
    unfit = {name: text for name, leaf in whole.leaves.items() if (text := _why_unfit(leaf))}
    fit = {name: leaf for name, leaf in whole.leaves.items() if name not in unfit}
    names = ExportedNames()
    add_by_rules(names, whole._replace(leaves=fit), rules, keep=False)
    check_export(
        [*(f"{name!r} {text}" for name, text in unfit.items()), *names.problems],
        "The map is restore's, from the checkpoint's names to the tree's; export a part by "
        "js.select(tree, ...).",
    )
    # One in memory at a time.
    values = ((s, value_of(whole, s, written)) for s, written in sorted(names.written.items()))
    return tf_checkpoint.write(path, values, write_state=write_state, overwrite=overwrite)


def _why_unfit(leaf: Any) -> str | None:
    """Why a value can't be exported to a TensorFlow checkpoint, if it can't."""
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        return f"is {value_text(leaf)}, not an array"
    try:
        is_known = np.dtype(leaf.dtype) in NUMBERS
    except TypeError:  # the dtype of PRNG keys
        is_known = False
    return why_not_here(leaf) or (
        None if is_known else f"is {value_text(leaf)}, a dtype that TensorFlow lacks"
    )


if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        raise no_attribute(__name__, name, public(globals()))
