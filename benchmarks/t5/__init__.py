"""A small T5, the same mathematics in three frameworks, each in its own idiom.

An encoder and a decoder of equal layers, each side one scan over rematerialised layers, with
T5's relative position bias, which the layers of a side share, and dropout where T5 has it: four
masks to a layer of the encoder, six to one of the decoder, and four more.

Every framework's file has ``objective(config)``, which gives ``loss(params, state, key, batch) ->
(loss, state)``; there is no state. Dense layers, norms and dropout are the framework's own where
it has them. `scopes.variables` makes the values; `_values` moves them to another framework.

Source: Raffel et al., *Exploring the limits of transfer learning with a unified text-to-text
transformer*, 2020. Differences: small, and attention's dropout has a mask for each position.
"""
