"""Optax, an optional dependency: what the optimizers here are for, and partly made of."""

try:
    import optax as optax  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError(
        "The optimizers of jscope.tf1.train are Optax transformations, and Optax is not "
        "installed: pip install 'jscope-jax[tf1]'."
    ) from error
