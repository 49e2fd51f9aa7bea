"""One request for a variable, from its arguments to its value: TF1's table of creating and getting.

| `reuse` | the variable exists | it doesn't |
|---|---|---|
| False | error, if requested before in this usage and trace | created, while declaring |
| True | shared | error |
| `AUTO_REUSE` | shared | created, while declaring |

Declaring and applying take the same steps in the same order; the context has what differs.
"""

from jax import Array

from .._errors import VariableExistsError
from .._variables.request import VariableRequest, check_found
from .call_sites import Site, call_site, site_text
from .context import Leaves, ScopeContext
from .usage import Usage


def resolve(context: ScopeContext, leaves: Leaves, request: VariableRequest, usage: Usage) -> Array:
    """Resolve a request: the value of the variable; while declaring, it is created.

    A request that fails is removed from the usage tracker, so that a corrected one isn't a second
    use.

    Raises:
        MissingVariableError, VariableExistsError, ShapeMismatchError, DtypeMismatchError, ...: See
            `Scope.get_variable`.
    """
    path, name = context.path, request.name
    whole = f"{path}/{name}" if path else name
    shape = request.requested_shape(whole)
    request, default_dtype = context.fill(request)
    dtype = request.requested_dtype(whole, default_dtype)
    site = call_site()
    trained = None if context.creators else request.trainable
    earlier = usage.request(whole, site, trained=trained)
    try:
        found = context.find(name, whole, leaves)
        reuse = context.reuse if request.reuse is None else request.reuse
        if found is None:
            found = context.create(whole, request, reuse, site)
        elif earlier is not None and reuse is False:
            raise _exists_already(whole, earlier, site, context.second_use)
        else:
            check_found(whole, shape, dtype, found, context.origin)
        return context.value(found)
    except Exception:
        if earlier is None:
            usage.roll_back(whole)
        raise


def _exists_already(name: str, first: Site, second: Site, hint: str) -> VariableExistsError:
    """Compose TF1's error for resolving a second request of a variable that isn't shared."""
    return VariableExistsError(
        f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or "
        f"reuse=js.AUTO_REUSE in variable_scope, or scope.shared(...)? {hint}\n"
        f"Originally defined at:\n{site_text(first)}\nRequested again at:\n{site_text(second)}"
    )
