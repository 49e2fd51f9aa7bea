"""BERT in TensorFlow 1: pretraining, the classifier, and the optimizer of both.

Written from the paper and from the names and shapes of the published checkpoints.
"""

import math
import re

import tensorflow.compat.v1 as tf


def gelu(x):
    return 0.5 * x * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def normal(config):
    return tf.truncated_normal_initializer(stddev=config.initializer_range)


def variable(config, name, *shape):
    return tf.get_variable(name, shape, initializer=normal(config))


def dense(x, units, name, config, activation=None):
    """``tf.layers.dense``, which newer versions lack: the last axis, `kernel` and `bias`."""
    with tf.variable_scope(name):
        kernel = variable(config, "kernel", x.shape[-1], units)
        bias = tf.get_variable("bias", [units], initializer=tf.zeros_initializer())
    y = tf.tensordot(x, kernel, 1) + bias
    return y if activation is None else activation(y)


def layer_norm(x):
    """``tf.contrib.layers.layer_norm`` over the last axis."""
    with tf.variable_scope("LayerNorm"):
        width = [x.shape[-1]]
        beta = tf.get_variable("beta", width, initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", width, initializer=tf.ones_initializer())
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-12)


def look_up(table, ids):
    """As on TPUs: the gradient is dense, and so its norm is the gradient's."""
    return tf.tensordot(tf.one_hot(ids, int(table.shape[0])), table, 1)


def heads(x, count):
    batch, time, width = map(int, x.shape)
    return tf.transpose(tf.reshape(x, [batch, time, count, width // count]), [0, 2, 1, 3])


def layer(x, mask, config):
    width, count = int(x.shape[-1]), config.num_attention_heads
    with tf.variable_scope("attention"):
        with tf.variable_scope("self"):
            query, key, value = (
                heads(dense(x, width, name, config), count) for name in ("query", "key", "value")
            )
            scores = tf.matmul(query, key, transpose_b=True) / math.sqrt(width // count)
            hidden = (1 - tf.cast(mask, tf.float32)[:, None, None, :]) * -10000.0
            y = tf.matmul(tf.nn.softmax(scores + hidden), value)
            y = tf.reshape(tf.transpose(y, [0, 2, 1, 3]), x.shape)
        with tf.variable_scope("output"):
            x = layer_norm(x + dense(y, width, "dense", config))
    with tf.variable_scope("intermediate"):
        y = dense(x, config.intermediate_size, "dense", config, gelu)
    with tf.variable_scope("output"):
        return layer_norm(x + dense(y, width, "dense", config))


def bert(batch, config):
    width = config.hidden_size
    with tf.variable_scope("bert"):
        with tf.variable_scope("embeddings"):
            words = variable(config, "word_embeddings", config.vocab_size, width)
            types = variable(config, "token_type_embeddings", config.type_vocab_size, width)
            shape = config.max_position_embeddings, width
            positions = variable(config, "position_embeddings", *shape)
            ids = batch["input_ids"]
            x = look_up(words, ids) + look_up(types, batch["segment_ids"])
            x = layer_norm(x + positions[: ids.shape[1]])
        with tf.variable_scope("encoder"):
            for i in range(config.num_hidden_layers):
                with tf.variable_scope(f"layer_{i}"):
                    x = layer(x, batch["input_mask"], config)
        with tf.variable_scope("pooler"):
            pooled = dense(x[:, 0], width, "dense", config, tf.tanh)
    return x, pooled, words


def of_classes(x, classes, config):
    weights = variable(config, "output_weights", classes, config.hidden_size)
    bias = tf.get_variable("output_bias", [classes], initializer=tf.zeros_initializer())
    return tf.matmul(x, weights, transpose_b=True) + bias


def pretrain(batch, config):
    x, pooled, table = bert(batch, config)
    x = tf.gather(x, batch["masked_lm_positions"], batch_dims=1)
    with tf.variable_scope("cls/predictions"):
        with tf.variable_scope("transform"):
            x = layer_norm(dense(x, config.hidden_size, "dense", config, gelu))
        bias = tf.get_variable(
            "output_bias", [config.vocab_size], initializer=tf.zeros_initializer()
        )
        words = tf.tensordot(x, table, [[2], [1]]) + bias
    with tf.variable_scope("cls/seq_relationship"):
        return words, of_classes(pooled, 2, config)


def cross_entropy(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def pretraining_loss(batch, config):
    words, follows = pretrain(batch, config)
    weights = batch["masked_lm_weights"]
    losses = cross_entropy(words, batch["masked_lm_ids"])
    masked = tf.reduce_sum(weights * losses) / (tf.reduce_sum(weights) + 1e-5)
    return masked + tf.reduce_mean(cross_entropy(follows, batch["next_sentence_labels"]))


def classify(batch, config, classes):
    return of_classes(bert(batch, config)[1], classes, config)


def classifier_loss(batch, config, classes):
    return tf.reduce_mean(cross_entropy(classify(batch, config, classes), batch["label_ids"]))


def assignment_map(path):
    """What the checkpoint and the graph both have."""
    stored = {name for name, _ in tf.train.list_variables(path)}
    return {v.op.name: v.op.name for v in tf.trainable_variables() if v.op.name in stored}


def learning_rate(rate, steps, warmup):
    """Linear up to ``warmup``, then on the line from ``rate`` to zero over all steps."""
    step = tf.train.get_or_create_global_step()
    decayed = tf.train.polynomial_decay(rate, step, steps, end_learning_rate=0.0)
    now, warm = tf.cast(step, tf.float32), float(warmup)
    return tf.where(now < warm, rate * now / warm, decayed)


class AdamWeightDecay(tf.train.Optimizer):
    """Adam without correction of the bias, with decay that doesn't pass through the moments."""

    def __init__(self, rate, decay=0.01, exclude=("LayerNorm", "layer_norm", "bias")):
        super().__init__(False, "AdamWeightDecayOptimizer")
        self.rate, self.decay, self.exclude = rate, decay, exclude

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        updates = []
        for grad, variable in grads_and_vars:
            if grad is None:
                continue
            m, v = (
                tf.get_variable(
                    f"{variable.op.name}/{slot}",
                    variable.shape,
                    trainable=False,
                    initializer=tf.zeros_initializer(),
                )
                for slot in ("adam_m", "adam_v")
            )
            new_m = 0.9 * m + 0.1 * grad
            new_v = 0.999 * v + 0.001 * tf.square(grad)
            update = new_m / (tf.sqrt(new_v) + 1e-6)
            if not any(re.search(pattern, variable.op.name) for pattern in self.exclude):
                update += self.decay * variable
            updates += [
                variable.assign(variable - self.rate * update),
                m.assign(new_m),
                v.assign(new_v),
            ]
        return tf.group(*updates, name=name)


def train_op(loss, rate, steps, warmup):
    step = tf.train.get_or_create_global_step()
    variables = tf.trainable_variables()
    grads, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), clip_norm=1.0)
    optimizer = AdamWeightDecay(learning_rate(rate, steps, warmup))
    update = optimizer.apply_gradients(zip(grads, variables, strict=True))
    with tf.control_dependencies([update]):
        return step.assign_add(1)
