"""GPT-2 in TensorFlow 1: the model, and generation with a `past` that grows.

Written from the paper and from the names and shapes of the published checkpoints.
"""

import math

import tensorflow.compat.v1 as tf


def norm(x, name):
    with tf.variable_scope(name):
        g = tf.get_variable("g", [x.shape[-1]], initializer=tf.ones_initializer())
        b = tf.get_variable("b", [x.shape[-1]], initializer=tf.zeros_initializer())
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.rsqrt(variance + 1e-5) * g + b


def conv1d(x, name, features):
    before = int(x.shape[-1])
    with tf.variable_scope(name):
        normal = tf.random_normal_initializer(stddev=0.02)
        w = tf.get_variable("w", [1, before, features], initializer=normal)
        b = tf.get_variable("b", [features], initializer=tf.zeros_initializer())
    flat = tf.matmul(tf.reshape(x, [-1, before]), tf.reshape(w, [before, features])) + b
    return tf.reshape(flat, tf.concat([tf.shape(x)[:-1], [features]], 0))


def heads(x, count):
    batch, time, width = tf.shape(x)[0], tf.shape(x)[1], int(x.shape[-1])
    x = tf.reshape(x, [batch, time, count, width // count])
    return tf.transpose(x, [0, 2, 1, 3])


def attention(x, settings, past):
    width = int(x.shape[-1])
    query, key, value = (
        heads(y, settings.n_head) for y in tf.split(conv1d(x, "c_attn", 3 * width), 3, axis=2)
    )
    present = tf.stack([key, value], axis=1)
    if past is not None:
        key = tf.concat([past[:, 0], key], axis=-2)
        value = tf.concat([past[:, 1], value], axis=-2)
    scores = tf.matmul(query, key, transpose_b=True) / math.sqrt(width // settings.n_head)
    here, all_ = tf.shape(scores)[2], tf.shape(scores)[3]
    seen = tf.range(all_)[None, :] <= tf.range(all_ - here, all_)[:, None]
    seen = tf.cast(seen, tf.float32)
    weights = tf.nn.softmax(scores * seen - 1e10 * (1 - seen))
    y = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
    return conv1d(tf.reshape(y, tf.shape(x)), "c_proj", width), present


def gelu(x):
    return 0.5 * x * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gpt2(tokens, settings, past=None, reuse=tf.AUTO_REUSE):
    """Logits, and the keys and values of these tokens."""
    with tf.variable_scope("model", reuse=reuse):
        width = settings.n_embd
        small, normal = (tf.random_normal_initializer(stddev=s) for s in (0.01, 0.02))
        positions = tf.get_variable("wpe", [settings.n_ctx, width], initializer=small)
        embeddings = tf.get_variable("wte", [settings.n_vocab, width], initializer=normal)
        read = 0 if past is None else tf.shape(past)[-2]
        x = tf.gather(embeddings, tokens)
        x += tf.gather(positions, read + tf.range(tf.shape(tokens)[1]))
        x = tf.ensure_shape(x, [None, None, width])
        presents = []
        for i in range(settings.n_layer):
            with tf.variable_scope(f"h{i}"):
                layer_past = None if past is None else past[:, i]
                y = norm(x, "ln_1")
                with tf.variable_scope("attn"):
                    y, present = attention(y, settings, layer_past)
                x = tf.ensure_shape(x + y, [None, None, width])
                y = norm(x, "ln_2")
                with tf.variable_scope("mlp"):
                    y = conv1d(gelu(conv1d(y, "c_fc", 4 * width)), "c_proj", width)
                x = tf.ensure_shape(x + y, [None, None, width])
            presents.append(present)
        logits = tf.tensordot(norm(x, "ln_f"), embeddings, [[2], [1]])
        return logits, tf.stack(presents, axis=1)


def loss_of(logits, tokens):
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tokens[:, 1:], logits=logits[:, :-1])
    )


def sample(logits, temperature, top_k):
    logits = logits / temperature
    if top_k:
        least = tf.nn.top_k(logits, k=top_k)[0][:, -1, None]
        logits = tf.where(logits < least, tf.fill(tf.shape(logits), -1e10), logits)
    return tf.multinomial(logits, num_samples=1, output_dtype=tf.int32)


def generate(prompt, count, settings, temperature=1.0, top_k=0):
    """The prompt and ``count`` more tokens; `past` has a length that the graph doesn't know."""
    batch = int(prompt.shape[0])
    unknown = [
        batch,
        settings.n_layer,
        2,
        settings.n_head,
        None,
        settings.n_embd // settings.n_head,
    ]

    def body(tokens, logits, past):
        token = sample(logits, temperature, top_k)
        new, present = gpt2(token, settings, past)
        return tf.concat([tokens, token], 1), new[:, 0], tf.concat([past, present], -2)

    logits, past = gpt2(prompt, settings)
    return tf.while_loop(
        lambda *_: True,
        body,
        [prompt, logits[:, -1], past],
        [tf.TensorShape([batch, None]), tf.TensorShape([batch, None]), tf.TensorShape(unknown)],
        maximum_iterations=count,
        back_prop=False,
    )[0]
