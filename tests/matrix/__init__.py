"""Every operation of a scope, in every transform, in every mode: what works, and what is refused.

An operation is a block ``(scope, x) -> y``; a transform applies JAX's own transform to a block;
both come with the same mathematics on plain arrays. `cells` crosses them.
"""
