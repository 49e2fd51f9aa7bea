"""Common layers as plain functions, short enough to copy and change.

Each is ``layer(scope, x, *, hyperparameters)``, by the contract that any layer keeps: it creates
its variables by name in the scope it is given, and chooses no name for that scope. Arguments and
variables are called as TF1 calls them where TF1 has the layer. Channels come last.

Facts that hold for all of them:

* **Variables have the scope's dtype**, float32 by default, and are cast to that of
  ``x``, in which the layer computes; statistics of normalizations are at least float32. (TF1
  creates variables in the dtype of ``x``.)
* **Operations have the scope's path in profiles** (`js.named`).
* **Default initializers are the scope's**: Glorot uniform, as in TF1, by default.
* **What decides a shape is static.** A traced hyperparameter is an error.

For other layers, use Flax's inside a scope, as `docs/layers.md` shows.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from . import initializers as init
from ._errors import IndexOutOfRangeError, ScopeError, ShapeMismatchError
from ._layer_arithmetic import (
    Sizes,
    along,
    at_least_float32,
    axes_of,
    check_static,
    check_window,
    convolve,
    convolve_transposed,
    floating,
    moments,
    normalized,
    over_axes,
    padding_of,
    sizes_of,
    spatial_axes,
)
from ._model.named import named
from ._names.tf1 import no_attribute, public
from ._scope.scope import Scope
from ._variables.spec import Constraint
from .initializers import Initializer
from .regularizers import Regularizer

Activation: TypeAlias = Callable[[Array], Array]
Initial: TypeAlias = Initializer | ArrayLike | None


@named
def dense(
    scope: Scope,
    x: Array,
    *,
    units: int,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: Initial = None,
    bias_initializer: Initial = init.zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
) -> Array:
    """``activation(x @ kernel + bias)``, on the last axis.

    >>> x = jnp.ones((8, 3))
    >>> js.declare(js.layers.dense)(x, units=4).abstract().size
    16

    Args:
        scope: Holds ``kernel``, (features, units), and ``bias``, (units,).
        x: (..., features).
        units: The number of outputs.
        activation: Default: none.

    Returns:
        (..., units).

    Source: ``tf.layers.dense``.
    """
    check_static(units=units, use_bias=use_bias)
    (last,) = axes_of(-1, floating(x))
    kernel = scope.get_variable(
        "kernel",
        (x.shape[last], units),
        initializer=kernel_initializer,
        regularizer=kernel_regularizer,
        constraint=kernel_constraint,
        trainable=trainable,
    )
    y = x @ kernel.astype(x.dtype)
    if use_bias:
        bias = (bias_initializer, trainable, bias_regularizer, bias_constraint)
        y = y + _parameter(scope, "bias", y, (y.ndim - 1,), *bias)
    return y if activation is None else activation(y)


@named
def conv(
    scope: Scope,
    x: Array,
    *,
    filters: int,
    kernel_size: Sizes,
    strides: Sizes = 1,
    padding: str = "VALID",
    dilation_rate: Sizes = 1,
    groups: int = 1,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: Initial = None,
    bias_initializer: Initial = init.zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
) -> Array:
    """Convolution over one, two or three axes, by the rank of ``x``.

    Args:
        scope: Holds ``kernel``, (*kernel_size, channels / groups, filters), and ``bias``,
            (filters,).
        x: (batch, *spatial, channels).
        filters: The number of output channels.
        kernel_size: One size for all axes, or one for each; so too strides and dilation_rate.
        padding: ``"VALID"`` or ``"SAME"``.
        groups: Channels and filters are split into so many groups; ``channels`` of them, with
            as many filters, make a depthwise convolution.
        activation: Default: none.

    Returns:
        (batch, *spatial / strides, filters).

    Source: ``tf.layers.conv1d``, ``conv2d``, ``conv3d``, ``tf.keras.layers.Conv2D(groups=)``. A
        ``depthwise_kernel`` of TF, (*kernel_size, channels, n), is a kernel here when reshaped to
        (*kernel_size, 1, channels * n), with ``groups=channels``.
    """
    check_static(filters=filters, kernel_size=kernel_size, strides=strides, use_bias=use_bias)
    check_static(dilation_rate=dilation_rate, groups=groups)
    axes = spatial_axes(x, "conv")
    if x.shape[-1] % groups or filters % groups:
        raise ShapeMismatchError(
            f"conv in the scope {scope._path!r}: {x.shape[-1]} channels and {filters} filters "
            f"can't be split into groups={groups}."
        )
    layer = f"conv in the scope {scope._path!r}"
    check_window(layer, x, kernel_size, padding, dilation_rate)
    kernel = scope.get_variable(
        "kernel",
        (*sizes_of(kernel_size, axes, "kernel_size"), x.shape[-1] // groups, filters),
        initializer=kernel_initializer,
        regularizer=kernel_regularizer,
        constraint=kernel_constraint,
        trainable=trainable,
    )
    y = convolve(x, kernel, strides, padding, dilation_rate, groups)
    if use_bias:
        bias = (bias_initializer, trainable, bias_regularizer, bias_constraint)
        y = y + _parameter(scope, "bias", y, (y.ndim - 1,), *bias)
    return y if activation is None else activation(y)


@named
def conv_transpose(
    scope: Scope,
    x: Array,
    *,
    filters: int,
    kernel_size: Sizes,
    strides: Sizes = 1,
    padding: str = "VALID",
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: Initial = None,
    bias_initializer: Initial = init.zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
) -> Array:
    """Transposed convolution: the gradient of `conv` with respect to its input.

    Args:
        scope: Holds ``kernel``, (*kernel_size, filters, channels), and ``bias``, (filters,).
        x: (batch, *spatial, channels), with one, two or three spatial axes.
        filters, kernel_size, strides, padding, activation: As for `conv`.

    Returns:
        (batch, *outputs, filters); along each axis ``size * stride`` outputs with ``"SAME"``
        padding, ``size * stride + max(kernel - stride, 0)`` with ``"VALID"``.

    Source: ``tf.layers.conv2d_transpose``, ``conv3d_transpose``.
    """
    check_static(filters=filters, kernel_size=kernel_size, strides=strides, use_bias=use_bias)
    axes = spatial_axes(x, "conv_transpose")
    kernel = scope.get_variable(
        "kernel",
        (*sizes_of(kernel_size, axes, "kernel_size"), filters, x.shape[-1]),
        initializer=kernel_initializer,
        regularizer=kernel_regularizer,
        constraint=kernel_constraint,
        trainable=trainable,
    )
    y = convolve_transposed(x, kernel, strides, padding)
    if use_bias:
        bias = (bias_initializer, trainable, bias_regularizer, bias_constraint)
        y = y + _parameter(scope, "bias", y, (y.ndim - 1,), *bias)
    return y if activation is None else activation(y)


@named
def embedding(
    scope: Scope,
    ids: Array,
    *,
    input_dim: int,
    output_dim: int,
    embeddings_initializer: Initial = None,
    embeddings_regularizer: Regularizer | None = None,
    embeddings_constraint: Constraint | None = None,
    trainable: bool = True,
) -> Array:
    """``embeddings[ids]``; the same table as a readout is ``x @ scope["embeddings"].T``.

    Args:
        scope: Holds ``embeddings``, (input_dim, output_dim).
        ids: Integers in ``0 ... input_dim - 1``, of any shape.
        input_dim: The size of the vocabulary.
        output_dim: The size of each vector.
        embeddings_initializer: Default: uniform in -0.05 ... 0.05.

    Returns:
        (*ids.shape, output_dim), in the variable's dtype; NaN where an id is out of range.

    Source: ``tf.keras.layers.Embedding``, ``tf.nn.embedding_lookup``. Difference: TF raises for
        an id out of range on a CPU and gives zeros on a GPU.
    """
    check_static(input_dim=input_dim, output_dim=output_dim)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"Embedding takes integers, got ids of dtype {ids.dtype}.")
    if embeddings_initializer is None:
        embeddings_initializer = init.random_uniform(-0.05, 0.05)
    table = scope.get_variable(
        "embeddings",
        (input_dim, output_dim),
        initializer=embeddings_initializer,
        regularizer=embeddings_regularizer,
        constraint=embeddings_constraint,
        trainable=trainable,
    )
    rows: Array = table.at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    return rows


# Normalization.


@named
def layer_norm(
    scope: Scope,
    x: Array,
    *,
    axis: Sizes = -1,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    beta_initializer: Initial = init.zeros,
    gamma_initializer: Initial = init.ones,
    trainable: bool = True,
) -> Array:
    """Plain layer normalization: ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``.

    Args:
        scope: Holds ``gamma`` if ``scale`` and ``beta`` if ``center``, of the axes' sizes.
        x: Any shape.
        axis: The axis, or axes, to normalize over.

    Source: ``tf.keras.layers.LayerNormalization``. (``tf.contrib.layers.layer_norm`` has the same
        variables, normalizes over all axes but the first, and adds 1e-12.)
    """
    check_static(axis=axis, center=center, scale=scale)
    axes = axes_of(axis, x)
    wide = at_least_float32(floating(x))
    y = wide - wide.mean(axes, keepdims=True)
    y = y * lax.rsqrt(jnp.mean(lax.square(y), axes, keepdims=True) + epsilon)
    if scale:
        y = y * _parameter(scope, "gamma", y, axes, gamma_initializer, trainable)
    if center:
        y = y + _parameter(scope, "beta", y, axes, beta_initializer, trainable)
    return y.astype(x.dtype)


@named
def rms_norm(
    scope: Scope,
    x: Array,
    *,
    axis: Sizes = -1,
    epsilon: float = 1e-6,
    gamma_initializer: Initial = init.ones,
    trainable: bool = True,
) -> Array:
    """``gamma * x / sqrt(mean(x**2) + epsilon)``, over the axes of one example.

    Args:
        scope: Holds ``gamma``, of the axes' sizes.
        x: Any shape.
        axis: The axis, or axes, to normalize over.

    Source: Zhang and Sennrich, *Root Mean Square Layer Normalization*, 2019.
    """
    check_static(axis=axis)
    axes = axes_of(axis, x)
    wide = at_least_float32(floating(x))
    factor = lax.rsqrt(jnp.mean(lax.square(wide), axes, keepdims=True) + epsilon)
    factor = factor * _parameter(scope, "gamma", wide, axes, gamma_initializer, trainable)
    return (wide * factor).astype(x.dtype)


@named
def batch_norm(
    scope: Scope,
    x: Array,
    *,
    training: bool,
    axis: int = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    beta_initializer: Initial = init.zeros,
    gamma_initializer: Initial = init.ones,
    moving_mean_initializer: Initial = init.zeros,
    moving_variance_initializer: Initial = init.ones,
    trainable: bool = True,
    axis_name: str | Sequence[str] | None = None,
) -> Array:
    r"""``gamma * (x - mean) / sqrt(variance + epsilon) + beta``, over all axes but one.

    In training, mean and variance are those of the batch, and the moving statistics become

    $$m \leftarrow \texttt{momentum}\, m + (1 - \texttt{momentum})\, \mathrm{batch},$$

    which `js.with_updates` returns; otherwise they are the moving statistics.

    >>> model = functools.partial(js.layers.batch_norm, training=True)
    >>> x = jnp.array([[0.0], [2.0]])
    >>> variables = js.init(model)(jax.random.key(0), x)
    >>> y, updates = js.with_updates(model)(variables, x)
    >>> round(float(updates["moving_mean"][0]), 4)
    0.01

    Args:
        scope: Holds ``gamma`` if ``scale``, ``beta`` if ``center``, and ``moving_mean`` and
            ``moving_variance``, which are not trainable and at least float32.
        x: Any shape.
        training: Static.
        axis: The axis that is kept, that of the channels.
        axis_name: In `jax.vmap` or `jax.shard_map`, the mapped axes whose batches count as one.
            The layer is declared outside of them as inside.

    Raises:
        ScopeError: In training, outside `js.with_updates`.

    Source: ``tf.layers.batch_normalization``. Differences: ``training`` is required; there are no
        ``UPDATE_OPS`` to run; the moving variance is that of the batch, divided by n, also where
        TF's fused kernel would divide by n - 1.
    """
    check_static(training=training, axis=axis, center=center, scale=scale)
    kept = axes_of(axis, x)
    others = tuple(i for i in range(x.ndim) if i not in kept)
    wide = at_least_float32(floating(x))
    channels = x.shape[kept[0]]
    moving = {
        name: scope.get_variable(name, (channels,), wide.dtype, initializer, trainable=False)
        for name, initializer in (
            ("moving_mean", moving_mean_initializer),
            ("moving_variance", moving_variance_initializer),
        )
    }

    def over_mapped(value: Array) -> Array:
        return over_axes(value, axis_name, scope._context.creates)

    if training:
        batch = dict(zip(moving, moments(wide, others, kept, over_mapped), strict=True))
        for name, old in moving.items():
            scope.assign(name, old + (lax.stop_gradient(batch[name]) - old) * (1 - momentum))
        moving = batch
    mean, variance = moving.values()
    gamma = _parameter(scope, "gamma", wide, kept, gamma_initializer, trainable) if scale else None
    beta = _parameter(scope, "beta", wide, kept, beta_initializer, trainable) if center else None
    y = normalized(wide, mean, variance, kept, epsilon, gamma, beta)
    return y.astype(x.dtype)


@named
def dropout(
    scope: Scope,
    x: Array,
    *,
    training: bool,
    rate: float = 0.5,
    noise_shape: Sequence[int | None] | None = None,
    stream: str = "dropout",
    name: str | None = None,
) -> Array:
    """In training, zero with probability ``rate``, else ``x / (1 - rate)``; otherwise ``x``.

    Args:
        scope: Has the random stream, if training. Two dropouts in one scope need names. A scan
            over time, and a `jax.vmap` or a scan over examples, draw the same mask for each step
            or example, unless its index is folded in: ``scope.fold(i)``.
        x: Any shape.
        training: Static.
        rate: In [0, 1), static.
        noise_shape: The shape of the random draws, which is broadcast; None in it is the size
            of ``x``. Default: the shape of ``x``.
        stream: The name of the random stream.
        name: Distinguishes several draws in one scope.

    Raises:
        MissingStreamError: In training, if the scope has no such stream.
        RandomStreamError: If a dropout in this scope would draw the same key.

    Source: ``tf.layers.dropout``. Difference: ``training`` is required.
    """
    check_static(training=training, rate=rate)
    if not 0 <= rate < 1:
        raise ValueError(f"The dropout rate in the scope {scope._path!r} is {rate}, not in [0, 1).")
    floating(x)
    if not training or rate == 0:
        return x
    shape = x.shape if noise_shape is None else _noise_shape(scope, x, noise_shape)
    keep = _bernoulli(scope.rng(stream, name), 1 - float(rate), shape)
    return lax.select(jnp.broadcast_to(keep, x.shape), x / (1 - rate), jnp.zeros_like(x))


def _noise_shape(scope: Scope, x: Array, noise_shape: Sequence[int | None]) -> tuple[int, ...]:
    """A shape that broadcasts to that of ``x``."""
    own = x.shape[max(x.ndim - len(noise_shape), 0) :]
    sizes = zip(noise_shape, own, strict=False)
    shape = tuple(n if size is None else size for size, n in sizes)
    if len(noise_shape) > x.ndim or any(a not in (1, b) for a, b in zip(shape, own, strict=True)):
        raise ShapeMismatchError(
            f"The dropout in the scope {scope._path!r} has noise_shape={noise_shape!r}, which "
            f"doesn't broadcast to x of shape {x.shape}: each size is 1, that of x, or None for "
            "that of x."
        )
    return shape


@functools.partial(jax.jit, static_argnums=(1, 2))
def _bernoulli(key: Array, p: float, shape: tuple[int, ...]) -> Array:
    """The mask of `dropout`: `jax.random.bernoulli` without its floats, in half the instructions.

    That compares the upper 23 bits, as a float32 in [0, 1), with ``p``.
    """
    count = math.ceil(float(np.float32(p)) * 2**23)  # of the 2**23 floats, those below p
    return jax.random.bits(key, shape, jnp.uint32) <= np.uint32((count << 9) - 1)


# Attention and recurrence.


@named
def multi_head_attention(
    scope: Scope,
    x: Array,
    *,
    num_heads: int,
    head_size: int,
    num_kv_heads: int | None = None,
    memory: Array | None = None,
    mask: Array | None = None,
    bias: Array | None = None,
    is_causal: bool = False,
    cache_length: int | None = None,
    dropout_rate: float = 0.0,
    training: bool | None = None,
    use_bias: bool = True,
    kernel_initializer: Initial = None,
) -> Array:
    r"""Attention with several heads, projected: $\mathrm{softmax}(q k^T / \sqrt{d} + b)\, v$.

    With ``cache_length``, ``x`` holds the next positions of a sequence. Their keys and values are
    written into the cache, and each attends to itself and what was before; position by position,
    or many in one call, the results are those of one call with ``is_causal``. It assigns, so it
    needs `js.with_updates`.

    >>> x = jnp.ones((2, 5, 16))
    >>> model = functools.partial(js.layers.multi_head_attention, num_heads=4, head_size=4)
    >>> list(js.init(model)(jax.random.key(0), x, use_bias=False))
    ['key/kernel', 'output/kernel', 'query/kernel', 'value/kernel']

    Args:
        scope: Holds a `dense` layer in each of ``query``, ``key``, ``value`` and ``output``; with
            ``cache_length`` also ``cached_key`` and ``cached_value``, (batch, cache_length,
            num_kv_heads, head_size), and ``cache_index``, int32: the number of positions so far.
        x: (batch, positions, features).
        num_heads: The number of heads.
        head_size: The size of each head's queries, keys and values.
        num_kv_heads: That of keys and values, a divisor of ``num_heads``; default: as many.
        memory: What is attended to, (batch, others, features); default: ``x``.
        mask: True where attention is allowed, broadcast to (batch, heads, positions, others).
        bias: Added before the softmax, broadcast likewise, such as that of relative positions;
            ``others`` are ``cache_length`` with a cache.
        is_causal: Whether a position attends only to itself and what is before it.
        cache_length: The number of positions that the cache holds.
        dropout_rate: Of the weights, in training. The random stream is ``"dropout"``.
        training: Static; required with a ``dropout_rate``.

    Returns:
        Of the shape of ``x``. Positions that the cache has no room for are NaN where the index is
        traced.

    Raises:
        IndexOutOfRangeError: If the cache is too short, where that can be known.
        ShapeMismatchError: If ``num_kv_heads`` doesn't divide ``num_heads``.

    Source: Vaswani et al., *Attention is all you need*, 2017; `jax.nn.dot_product_attention`.
    """
    check_static(num_heads=num_heads, head_size=head_size, num_kv_heads=num_kv_heads)
    check_static(is_causal=is_causal, cache_length=cache_length, dropout_rate=dropout_rate)
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if num_heads % kv_heads:
        raise ShapeMismatchError(
            f"multi_head_attention in the scope {scope._path!r}: num_kv_heads={kv_heads} is not "
            f"a divisor of num_heads={num_heads}."
        )
    if dropout_rate and training is None:
        raise TypeError(
            f"multi_head_attention in the scope {scope._path!r} has a dropout_rate, so write "
            "training=True or training=False."
        )

    def heads(name: str, of: Array, count: int) -> Array:
        projected = dense(
            scope / name,
            of,
            units=count * head_size,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
        )
        return projected.reshape((*of.shape[:-1], count, head_size))

    source = x if memory is None else memory
    query = heads("query", x, num_heads)
    key, value = heads("key", source, kv_heads), heads("value", source, kv_heads)
    fits: Array | bool = True
    if cache_length is not None:
        if memory is not None or mask is not None:
            raise ScopeError(
                f"multi_head_attention in the scope {scope._path!r}: cache_length is for attention "
                "to the sequence itself, in its order; leave out memory= and mask=."
            )
        key, value, mask, fits = _cached(scope, key, value, cache_length)
        is_causal = False  # the mask has it
    if dropout_rate and training:
        weights = _weights(query, key, bias, mask, is_causal)
        weights = dropout(scope, weights, rate=dropout_rate, training=training, name="weights")
        y = jnp.einsum("bnts,bsnh->btnh", weights, _for_each(value, num_heads))
    else:
        with jax.numpy_dtype_promotion("standard"):  # which JAX's function needs for bfloat16
            y = jax.nn.dot_product_attention(query, key, value, bias, mask, is_causal=is_causal)
    y = dense(
        scope / "output",
        y.reshape((*x.shape[:-1], num_heads * head_size)),
        units=x.shape[-1],
        use_bias=use_bias,
        kernel_initializer=kernel_initializer,
    )
    return y if fits is True else jnp.where(fits, y, jnp.full_like(y, jnp.nan))


def _weights(
    query: Array, key: Array, bias: Array | None, mask: Array | None, is_causal: bool
) -> Array:
    """The weights of attention, which JAX's function doesn't show: (batch, heads, T, S)."""
    key = _for_each(key, query.shape[2])
    scores = (
        jnp.einsum("btnh,bsnh->bnts", at_least_float32(query), at_least_float32(key))
        / query.shape[-1] ** 0.5
    )
    if bias is not None:
        scores = scores + jnp.broadcast_to(bias.astype(scores.dtype), scores.shape)
    allowed = jnp.ones(scores.shape, bool) if mask is None else jnp.broadcast_to(mask, scores.shape)
    if is_causal:
        allowed = jnp.tril(allowed)
    scores = jnp.where(allowed, scores, float(np.finfo(np.float32).min))
    return jax.nn.softmax(scores, axis=-1).astype(query.dtype)


def _for_each(x: Array, num_heads: int) -> Array:
    """Attention's keys or values, repeated for the heads that share them."""
    return jnp.repeat(x, num_heads // x.shape[2], axis=2)


def _cached(
    scope: Scope, key: Array, value: Array, length: int
) -> tuple[Array, Array, Array, Array]:
    """Attention's keys and values so far, which of them each position sees; if there was room."""
    batch, positions, *rest = key.shape
    first = scope.get_variable("cache_index", (), jnp.int32, init.zeros, trainable=False)
    if not isinstance(first, jax.core.Tracer) and int(first) + positions > length:
        raise IndexOutOfRangeError(
            f"The cache in the scope {scope._path!r} holds {length} positions; {int(first)} are "
            f"there, and {positions} more don't fit. Declare it with a larger cache_length."
        )
    here = first + jnp.arange(positions, dtype=jnp.int32)
    everything = []
    for name, new in (("cached_key", key), ("cached_value", value)):
        shape = (batch, length, *rest)
        old = scope.get_variable(name, shape, new.dtype, init.zeros, trainable=False)
        everything.append(scope.assign(name, old.at[:, here].set(new, mode="drop")))
    scope.assign("cache_index", first + positions)
    sees = jnp.arange(length, dtype=jnp.int32)[None, :] <= here[:, None]
    return everything[0], everything[1], sees[None, None], (here < length)[None, :, None]


@named
def lstm_cell(
    scope: Scope,
    x: Array,
    state: tuple[Array, Array],
    *,
    activation: Activation = jnp.tanh,
    forget_bias: float = 1.0,
    kernel_initializer: Initial = None,
    bias_initializer: Initial = init.zeros,
) -> tuple[Array, tuple[Array, Array]]:
    r"""One step of a long short-term memory.

    With $(i, j, f, o) = [x, h]\, \mathrm{kernel} + \mathrm{bias}$,

    $$c' = \sigma(f + \texttt{forget\_bias})\, c + \sigma(i) \tanh(j), \qquad
    h' = \sigma(o) \tanh(c').$$

    >>> def encode(scope, xs):  # (time, batch, features)
    ...     def step(state, x):
    ...         h, state = js.layers.lstm_cell(scope, x, state)
    ...         return state, h
    ...     start = jnp.zeros((xs.shape[1], 32))
    ...     return jax.lax.scan(step, (start, start), xs)[1]

    Args:
        scope: Holds ``kernel``, (features + units, 4 units), and ``bias``, (4 units,).
        x: (batch, features).
        state: ``(c, h)``, (batch, units) each; zeros at first.

    Returns:
        ``(h', (c', h'))``.

    Source: ``tf.nn.rnn_cell.LSTMCell``. Difference: the number of units is that of the state.
    """
    c, h = state
    units = h.shape[-1]
    inputs = jnp.concatenate([floating(x), h], axis=-1)
    gates = dense(
        scope,
        inputs,
        units=4 * units,
        kernel_initializer=kernel_initializer,
        bias_initializer=bias_initializer,
    )
    i, j, f, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f + forget_bias) * c + jax.nn.sigmoid(i) * activation(j)
    h = jax.nn.sigmoid(o) * activation(c)
    return h, (c, h)


@named
def gru_cell(
    scope: Scope,
    x: Array,
    state: Array,
    *,
    activation: Activation = jnp.tanh,
    kernel_initializer: Initial = None,
    bias_initializer: Initial = None,
) -> Array:
    r"""One step of a gated recurrent unit.

    With $(r, u) = \sigma([x, h]\, \mathrm{gates})$ and $c = \tanh([x, r h]\, \mathrm{candidate})$,

    $$h' = u h + (1 - u) c.$$

    Args:
        scope: Holds ``gates/kernel``, (features + units, 2 units), ``gates/bias``, (2 units,),
            ``candidate/kernel``, (features + units, units), and ``candidate/bias``, (units,).
        x: (batch, features).
        state: ``h``, (batch, units); zeros at first.
        bias_initializer: Default: ones for the gates, zeros for the candidate.

    Returns:
        ``h'``.

    Source: ``tf.nn.rnn_cell.GRUCell``. Differences: the number of units is that of the state,
        and the new state, which is the output too, is returned once.
    """
    units = state.shape[-1]

    def projected(name: str, h: Array, count: int, bias: Initial) -> Array:
        return dense(
            scope / name,
            jnp.concatenate([floating(x), h], axis=-1),
            units=count,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias if bias_initializer is None else bias_initializer,
        )

    gates = jax.nn.sigmoid(projected("gates", state, 2 * units, init.ones))
    r, u = jnp.split(gates, 2, axis=-1)
    c = activation(projected("candidate", r * state, units, init.zeros))
    return u * state + (1 - u) * c


# Pooling, which has no variables.


def max_pool(
    x: Array, *, pool_size: Sizes, strides: Sizes | None = None, padding: str = "VALID"
) -> Array:
    """The largest value in each window.

    Args:
        x: (batch, *spatial, channels), with one, two or three spatial axes.
        pool_size: One size for all spatial axes, or one for each; so too strides.
        strides: Default: ``pool_size``.
        padding: ``"VALID"`` or ``"SAME"``; what is padded never counts.

    Source: ``tf.layers.max_pooling1d``, ``max_pooling2d``, ``max_pooling3d``.
    """
    spatial_axes(x, "a pool")
    check_window("max_pool", x, pool_size, padding, argument="pool_size")
    return _pooled(x, lax.max, -jnp.inf, pool_size, strides, padding)


def avg_pool(
    x: Array, *, pool_size: Sizes, strides: Sizes | None = None, padding: str = "VALID"
) -> Array:
    """The mean of each window; arguments as for `max_pool`.

    Source: ``tf.layers.average_pooling1d``, ``average_pooling2d``, ``average_pooling3d``.
    """
    spatial_axes(x, "a pool")
    check_window("avg_pool", x, pool_size, padding, argument="pool_size")
    total = _pooled(at_least_float32(floating(x)), lax.add, 0, pool_size, strides, padding)
    window, steps = _window(x, pool_size, strides)
    pads = lax.padtype_to_pads(x.shape, window, steps, padding_of(padding))
    # In NumPy, axis by axis: XLA takes minutes to fold the pool of an array of ones.
    counts = np.ones((1,) * x.ndim, total.dtype)
    for axis in range(1, x.ndim - 1):
        first = np.arange(total.shape[axis]) * steps[axis] - pads[axis][0]
        last = np.minimum(first + window[axis], x.shape[axis])
        count = (last - np.maximum(first, 0)).astype(total.dtype)
        counts = counts * np.expand_dims(count, [i for i in range(x.ndim) if i != axis])
    return (total / counts).astype(x.dtype)


def _pooled(
    x: Array,
    operation: Callable[[Any, Any], Any],
    start: float,
    pool_size: Sizes,
    strides: Sizes | None,
    padding: str,
) -> Array:
    window, steps = _window(x, pool_size, strides)
    pooled: Array = lax.reduce_window(
        x, np.asarray(start, x.dtype), operation, window, steps, padding_of(padding)
    )
    return pooled


def _window(
    x: Array, pool_size: Sizes, strides: Sizes | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    check_static(pool_size=pool_size, strides=strides)
    axes = spatial_axes(x, "a pool")
    window = (1, *sizes_of(pool_size, axes, "pool_size"), 1)
    return window, window if strides is None else (1, *sizes_of(strides, axes, "strides"), 1)


# Shared by the layers.


def _parameter(
    scope: Scope,
    name: str,
    y: Array,
    axes: tuple[int, ...],
    initializer: Initial,
    trainable: bool,
    regularizer: Regularizer | None = None,
    constraint: Constraint | None = None,
) -> Array:
    """A layer's variable with some axes of ``y``, such that it broadcasts with it."""
    value = scope.get_variable(
        name,
        tuple(y.shape[i] for i in axes),
        initializer=initializer,
        regularizer=regularizer,
        constraint=constraint,
        trainable=trainable,
    )
    return along(value.astype(y.dtype), axes, y.ndim)


if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        raise no_attribute(__name__, name, public(globals()))


def __dir__() -> list[str]:
    return public(globals())
