"""New names for variables: ``--rename OLD=NEW``, or ``--map FILE``, an assignment map in JSON.

The file is an object from names of the source to new ones, with scopes, ``*`` and lists::

    {"bert/": "encoder/", "bert/layer_*/": "encoder/layers/*/", "bert/table": ["embed/w", "head/w"]}

Of the rules about a variable the most specific one decides: a name, then the longest left side.
Variables that no rule is about keep their names. A rule renames; it makes no stack of several
variables, which takes a model's declaration.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from .._errors import SelectorError, with_near_names
from .._names.assignment import Rule, absent_old_names, mapped_name, problems_of, read_rules
from ..formats._file_entry import Entry
from ._command import CommandError

_EXAMPLE = '{"bert/": "encoder/", "bert/layer_*/": "encoder/layers/*/"}'


def renames(pairs: Iterable[str]) -> dict[str, str]:
    """The new names that a command's options ``--rename OLD=NEW`` give."""
    names = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not equals:
            raise CommandError(f"--rename {pair!r} has no '='", "--rename OLD=NEW, names or scopes")
        names[old] = new
    return names


def with_new_names(variables: Mapping[str, Entry], names: Mapping[str, str]) -> dict[str, Entry]:
    """A checkpoint's variables under the new names that ``--rename`` gives them.

    Raises:
        CommandError: If an old name is not there, or two variables would get one name.
    """
    absent = absent_old_names(variables, names)
    if absent:
        raise SelectorError(f"Nothing to rename: {with_near_names(absent, variables)}.")
    result: dict[str, Entry] = {}
    for old, variable in variables.items():
        new = mapped_name(names, old)
        if new in result:
            raise CommandError(
                f"two variables would be called {new!r}", "rename one of them otherwise"
            )
        result[new] = variable
    return result


def with_mapped_names(variables: Mapping[str, Entry], path: str) -> dict[str, Entry]:
    """A checkpoint's variables under the new names that the file of ``--map`` gives them.

    Raises:
        CommandError: If the file is not a map, a rule is about nothing or would need a stack, or
            two variables would get one name.
    """
    rules = read_rules(_read_map(path), variables, ())
    problems = list(problems_of(rules, variables, None))
    if problems:
        raise CommandError(f"--map {path}: {'; '.join(problems[:10])}", "jscope ls shows the names")
    result: dict[str, Entry] = {}
    for name, variable in variables.items():
        for new in _names_by_rules(name, rules):
            if new in result:
                hint = "give one of them another name in the file, or leave it out by --drop"
                raise CommandError(f"--map {path}: two variables would be called {new!r}", hint)
            result[new] = variable
    return result


def _names_by_rules(name: str, rules: Sequence[Rule]) -> list[str]:
    """The new names that the rules of ``--map`` give to one variable."""
    found = [(_rule_rank(rule), new) for rule in rules for _, new in rule.pairs([name])]
    return [new for rank, new in found if rank == min(found)[0]] or [name]


def _rule_rank(rule: Rule) -> tuple[int, int]:
    """A key to sort the rules of ``--map`` by, the most specific first."""
    return rule.rank[0], rule.left.count("*") - len(rule.left)


def _read_map(path: str) -> dict[str | re.Pattern[str], str | tuple[str, ...]]:
    """The entries in the file of ``--map``."""
    try:
        with open(path, encoding="utf-8") as file:
            pairs = json.load(file, object_pairs_hook=tuple)
    except OSError as error:
        raise CommandError(f"--map {path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--map {path} is not JSON: {error}", _EXAMPLE) from error
    if not isinstance(pairs, tuple):
        raise CommandError(f"--map {path} is not an object of names", _EXAMPLE)
    result: dict[str | re.Pattern[str], str | tuple[str, ...]] = {}
    for left, value in pairs:
        if left in result:
            hint = f'a list of both: "{left}": ["new", "other"]'
            raise CommandError(f"--map {path} has {left!r} twice", hint)
        rights = value if isinstance(value, list) else [value]
        if not rights or not all(isinstance(right, str) for right in rights):
            raise CommandError(f"--map {path} has no name for {left!r}: {value!r}", _EXAMPLE)
        for right in rights:
            _check_entry(path, left, right)
        result[left] = tuple(rights)
    return result


def _check_entry(path: str, left: str, right: str) -> None:
    """Refuse an entry in the file of ``--map`` that gives no new names, or needs a stack."""
    rule = f"--map {path}: {left!r}: {right!r}"
    if left.count("*") != right.count("*"):
        raise CommandError(
            f"{rule} has not the same * on both sides, and would need a stack, which convert does "
            "not make",
            'write each * on both sides, as "layer_*/": "layers/*/"',
        )
    if "*" in left and left.endswith("/") != right.endswith("/"):
        raise CommandError(f"{rule} has a scope on one side only", "end both with / or none")
