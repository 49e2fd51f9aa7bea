"""The arguments of a restore, checked before a checkpoint is opened."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax

from .._errors import CheckpointValueError
from .._model.declaration import Declaration
from .._names.selectors import Selector
from .._random.keys import check_key
from ..sharding import AnyMesh, Rules
from ._account import Policy
from ._reading import IN_FLIGHT
from ._renaming import Rename, check_rename, check_separator
from ._steps import check_flags
from ._varlist import VarList


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of a restore; see `Saver.restore` and `Saver`."""

    target: Any
    select: Selector | None = None
    rename: Rename | None = None
    names: str = "/"
    stacks: Collection[str] = ()
    policy: Policy = dataclasses.field(default_factory=Policy)
    reshape: bool | Selector = False
    key: jax.Array | None = None
    mesh: AnyMesh | None = None
    rules: Rules = ()
    var_list: VarList | None = None
    verify: bool = True
    in_flight: int = IN_FLIGHT


def variables_of(var_list: VarList | None) -> Selector | None:
    """A list of variables as a selector; of a dict, the names that its values are."""
    if isinstance(var_list, Mapping):
        return dict.fromkeys(var_list.values())
    return var_list


def check_request(request: Request) -> None:
    policy = request.policy
    check_rename(request.rename)
    check_separator(request.names)
    check_flags(convert=policy.convert)
    for argument, value, known in (
        ("missing", policy.missing, ("error", "keep", "init")),
        ("unexpected", policy.unexpected, ("error", "ignore")),
    ):
        if value not in known:
            raise CheckpointValueError(
                f"`{argument}` is one of {', '.join(map(repr, known))}, got {value!r}."
            )
    if request.target is None:
        _check_without_target(request)
        return
    if isinstance(request.target, Declaration):
        if request.key is not None:
            check_key(request.key)
        if policy.missing == "init" and request.key is None:
            raise CheckpointValueError(
                "missing='init' needs a key for the initial values: "
                "saver.restore(declared, missing='init', key=jax.random.key(0))."
            )
    elif policy.missing == "init" or request.key is not None:
        raise CheckpointValueError(
            "Only a declaration has initial values: write "
            "saver.restore(declared, missing='init', key=key), or saver.restore(target, "
            "missing='keep') with a target that has values, as declared.init(key) gives them."
        )


def _check_without_target(request: Request) -> None:
    policy = request.policy
    useless = {
        f"missing={policy.missing!r}": policy.missing != "error",
        "unexpected='ignore'": policy.unexpected != "error",
        "convert=True": policy.convert,
        "key=key": request.key is not None,
        "mesh=mesh": request.mesh is not None,
        "rules=rules": bool(request.rules),
    }
    given = [argument for argument, is_given in useless.items() if is_given]
    if given:
        names = ", ".join(argument.partition("=")[0] + "=" for argument in given)
        raise CheckpointValueError(
            f"Without a target all is restored as it was saved, and {names} would do nothing. "
            "Leave that out, or give a target: "
            f"saver.restore(declared, {', '.join(given)})."
        )
