"""ResNet v1 in TensorFlow 1, with slim's names.

Written from the paper and from the names and shapes of the published checkpoints. What slim's
``arg_scope`` gives its layers is written out, since newer versions of TensorFlow lack slim.
"""

import tensorflow.compat.v1 as tf

WEIGHT_DECAY, DECAY, EPSILON = 1e-4, 0.9, 1e-5


def batch_norm(x, training):
    """The fused kernel, as in ``tf.contrib.layers.batch_norm``: the variance is of n - 1."""
    with tf.variable_scope("BatchNorm"):
        size, ones, zeros = [x.shape[-1]], tf.ones_initializer(), tf.zeros_initializer()
        gamma = tf.get_variable("gamma", size, initializer=ones)
        beta = tf.get_variable("beta", size, initializer=zeros)
        mean = tf.get_variable("moving_mean", size, initializer=zeros, trainable=False)
        variance = tf.get_variable("moving_variance", size, initializer=ones, trainable=False)
    if not training:
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, EPSILON)
    y, batch_mean, batch_variance = tf.nn.fused_batch_norm(x, gamma, beta, epsilon=EPSILON)
    for moving, new in ((mean, batch_mean), (variance, batch_variance)):
        update = tf.assign_sub(moving, (moving - new) * (1 - DECAY))
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    return y


def decay(w):
    return WEIGHT_DECAY * tf.nn.l2_loss(w)


def conv2d(x, depth, size, stride, scope, training, padding="SAME", relu=True, norm=True):
    with tf.variable_scope(scope):
        shape = [size, size, x.shape[-1], depth]
        w = tf.get_variable("weights", shape, regularizer=decay)
        y = tf.nn.conv2d(x, w, strides=stride, padding=padding)
        if norm:
            y = batch_norm(y, training)
        else:
            y += tf.get_variable("biases", [depth], initializer=tf.zeros_initializer())
    return tf.nn.relu(y) if relu else y


def conv2d_same(x, depth, size, stride, scope, training):
    if stride == 1:
        return conv2d(x, depth, size, 1, scope, training)
    before, after = (size - 1) // 2, size // 2
    x = tf.pad(x, [[0, 0], [before, after], [before, after], [0, 0]])
    return conv2d(x, depth, size, stride, scope, training, "VALID")


def bottleneck(x, base_depth, stride, training):
    depth = 4 * base_depth
    with tf.variable_scope("bottleneck_v1"):
        if int(x.shape[-1]) == depth:
            shortcut = x if stride == 1 else tf.nn.max_pool2d(x, 1, stride, "VALID")
        else:
            shortcut = conv2d(x, depth, 1, stride, "shortcut", training, relu=False)
        y = conv2d(x, base_depth, 1, 1, "conv1", training)
        y = conv2d_same(y, base_depth, 3, stride, "conv2", training)
        y = conv2d(y, depth, 1, 1, "conv3", training, relu=False)
        return tf.nn.relu(shortcut + y)


def resnet_v1(images, blocks, classes, training):
    with tf.variable_scope("resnet_v1"):
        x = conv2d_same(images, 64, 7, 2, "conv1", training)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for block in blocks:
            with tf.variable_scope(block.scope):
                for i in range(1, block.units + 1):
                    with tf.variable_scope(f"unit_{i}"):
                        stride = block.stride if i == block.units else 1
                        x = bottleneck(x, block.base_depth, stride, training)
        x = tf.reduce_mean(x, [1, 2], keepdims=True)
        logits = conv2d(x, classes, 1, 1, "logits", training, relu=False, norm=False)
        return tf.squeeze(logits, [1, 2])


def loss_of(logits, labels):
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses) + tf.losses.get_regularization_loss()


def train_op(loss, rate):
    step = tf.train.get_or_create_global_step()
    schedule = tf.train.exponential_decay(rate, step, 20, 0.7, staircase=True)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        return tf.train.MomentumOptimizer(schedule, 0.9).minimize(loss, step)


def variables_to_restore(exclude):
    """Slim's function: the model's variables, without those below some scopes."""
    names = [v.op.name for v in tf.trainable_variables()]
    names += [v.op.name for v in tf.global_variables() if "/moving_" in v.op.name]
    return sorted(n for n in names if not any(n.startswith(scope) for scope in exclude))
