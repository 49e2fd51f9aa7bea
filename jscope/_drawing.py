"""Drawing random keys: the methods of `Scope` that use its random streams.

Imports: `_cursor`, `_errors`, `_names`, `_sites`, JAX.
"""

import operator
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array

from ._cursor import Cursor
from ._errors import RandomStreamError
from ._names import check
from ._sites import call_site, site_text


class Drawing(Cursor):
    """`rng` and `fold`."""

    __slots__ = ()

    def rng(self, stream: str, name: str | None = None) -> Array:
        """A random key: the stream's root key, folded with this scope's path.

        The key is ``fold_in(fold_in(root, w0), w1)``, where ``(w0, w1)`` are the words of the
        name ``<scope>/rng:<stream>``, or ``<scope>/rng:<stream>/<name>`` (`docs/design.md`,
        "Keys"). So it is the same under any transform, in a stack or an unrolled loop.

        >>> scope = js.Scope({}, rngs={"dropout": jax.random.key(0)}) / "layer"
        >>> keep = jax.random.bernoulli(scope.rng("dropout"), 0.9, (3,))

        Args:
            stream: Which stream, such as ``"dropout"``.
            name: Tells several draws from one stream in one scope apart. In loops over time,
                draw from `fold` instead.

        Returns:
            A key of the root key's kind; while declaring, an abstract one, whatever the stream.

        Raises:
            MissingStreamError: If the scope has no such stream.
            RandomStreamError: If this was drawn already in this scope and trace.
            ScopeError: If this scope is a stack that is not sliced.
        """
        check(stream)
        if name is not None:
            check(name)
        what = f"A key of the stream {stream!r}"
        self._place.check_sliced(self._leaves, what)
        key: Array = self._place.draw(stream, name, self._leaves)
        site = call_site()
        earlier = self._begun().drawn_again((self._path, stream, name), site)
        if earlier is not None:
            other = "another name=" if name else f"scope.rng({stream!r}, name='second')"
            raise RandomStreamError(
                f"{what} was drawn already in the scope {self._path!r}"
                f"{f' as {name!r}' if name else ''}, and would be the same key. Write {other} for "
                "another draw, or scope.fold(step) in a loop."
                f"\nFirst drawn at:\n{site_text(earlier)}\nDrawn again at:\n{site_text(site)}"
            )
        return key

    def fold(self, i: int | Array) -> Self:
        """This scope, with an integer folded into its random keys, such as a time step.

        Variables are the same. Traced integers fold too:

        >>> def step(x, t):
        ...     now = scope.fold(t)
        ...     return x * jax.random.bernoulli(now.rng("dropout"), 0.9, x.shape), None
        >>> scope = js.Scope({}, rngs=jax.random.key(0))
        >>> x, _ = jax.lax.scan(step, jnp.ones(3), jnp.arange(5))

        Raises:
            TypeError: If ``i`` is not an integer scalar.
        """
        if isinstance(i, jax.core.Tracer):
            integer: Any = i if jnp.issubdtype(i.dtype, jnp.integer) and i.ndim == 0 else None
        else:
            try:
                integer = None if isinstance(i, bool) else operator.index(i)
            except TypeError:
                integer = None
        if integer is None:
            raise TypeError(f"scope.fold takes an integer scalar, such as a time step, got {i!r}.")
        concrete = (self._path, integer) if isinstance(integer, int) else None
        place, leaves = self._place.folded(integer, self._leaves)
        return self._at(place, leaves, self._begun().folded(concrete), self._openings())
