"""A small S5, the same mathematics in three frameworks, each in its own idiom.

A classifier of sequences: a stack of equal layers, one scan over rematerialised layers, each a
batch norm, a diagonal state-space layer with complex parameters by `jax.lax.associative_scan`, a
gate, and two dropouts. The model is of one sequence and mapped over the batch, across which the
norms average by ``axis_name``.

Every framework's file has ``objective(config)``, which gives ``loss(params, state, key, batch) ->
(loss, state)``, with the norms' moving statistics as the state. Dense layers, norms and dropout
are the framework's own where it has them. `scopes.variables` makes the values; `_values` moves
them to another framework.

Source: Smith, Warrington and Linderman, *Simplified state space layers for sequence modeling*,
2023. Differences: small, and the eigenvalues begin as those of S4D-Lin (Gu et al., 2022).
"""
