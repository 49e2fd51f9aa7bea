"""A toy GPT, the same mathematics in five frameworks, each in its own idiom.

Every framework's file has two functions. ``init(config, key, tokens)`` makes all variables;
it may be jitted, or called as it is. ``bind(config, key,
tokens)`` gives ``(apply, variables)``, with ``apply(variables, tokens) -> logits``.

Variables are named ``embed/w``, ``positions/w``, ``block_0/ln_1/scale``,
``block_0/attn/q/w``, ...: 16 to a block and 6 more. Dense layers and layer norms are the
framework's own where it has them; `values` moves values from one to another.
"""
