"""pix2pix in TensorFlow 1: a generator and a discriminator, and the training of both in one step.

Written from the paper and from the names of the variables in the checkpoints of the well-known
TensorFlow program.
"""

import tensorflow.compat.v1 as tf

EPS = 1e-12


def variable(name, shape, mean, stddev=0.02):
    return tf.get_variable(name, shape, initializer=tf.random_normal_initializer(mean, stddev))


def zeros(name, units, **options):
    return tf.get_variable(name, [units], initializer=tf.zeros_initializer(), **options)


def conv2d(x, filters, strides, padding):
    """``tf.layers.conv2d``, which newer versions lack."""
    with tf.variable_scope(None, "conv2d"):
        kernel = variable("kernel", [4, 4, x.shape[-1], filters], 0)
        bias = zeros("bias", filters)
    return tf.nn.conv2d(x, kernel, strides=strides, padding=padding) + bias


def conv2d_transpose(x, filters):
    """``tf.layers.conv2d_transpose``, with strides of 2 and the padding "same"."""
    batch, height, width, channels = map(int, x.shape)
    with tf.variable_scope(None, "conv2d_transpose"):
        kernel = variable("kernel", [4, 4, filters, channels], 0)
        bias = zeros("bias", filters)
    shape = [batch, 2 * height, 2 * width, filters]
    return tf.nn.conv2d_transpose(x, kernel, shape, strides=2, padding="SAME") + bias


def batch_normalization(x):
    """``tf.layers.batch_normalization(training=True)`` whose updates are never run."""
    with tf.variable_scope(None, "batch_normalization"):
        size = int(x.shape[-1])
        gamma, beta = variable("gamma", [size], 1), zeros("beta", size)
        zeros("moving_mean", size, trainable=False)
        ones = tf.ones_initializer()
        tf.get_variable("moving_variance", [size], initializer=ones, trainable=False)
    return tf.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-5)[0]


def leaky_relu(x):
    return 0.6 * x + 0.4 * tf.abs(x)


def generator(x, channels, sizes):
    encoded, last = [], len(sizes.encoders)
    for i, multiple in enumerate(sizes.encoders, 1):
        with tf.variable_scope(f"encoder_{i}"):
            if i == 1:
                x = conv2d(x, sizes.ngf, 2, "SAME")
            else:
                x = batch_normalization(conv2d(leaky_relu(x), sizes.ngf * multiple, 2, "SAME"))
        encoded.append(x)
    for i in range(last, 1, -1):
        with tf.variable_scope(f"decoder_{i}"):
            if i < last:
                x = tf.concat([x, encoded[i - 1]], axis=3)
            x = conv2d_transpose(tf.nn.relu(x), sizes.ngf * sizes.encoders[i - 2])
            x = batch_normalization(x)
            if last - i < len(sizes.dropout):
                x = tf.nn.dropout(x, rate=sizes.dropout[last - i])
    with tf.variable_scope("decoder_1"):
        x = tf.concat([x, encoded[0]], axis=3)
        return tf.tanh(conv2d_transpose(tf.nn.relu(x), channels))


def discriminator(inputs, targets, sizes):
    x = tf.concat([inputs, targets], axis=3)
    around = [[0, 0], [1, 1], [1, 1], [0, 0]]
    with tf.variable_scope("layer_1"):
        x = leaky_relu(conv2d(tf.pad(x, around), sizes.ndf, 2, "VALID"))
    for i in range(1, sizes.halvings + 1):
        with tf.variable_scope(f"layer_{i + 1}"):
            strides = 1 if i == sizes.halvings else 2
            x = conv2d(tf.pad(x, around), sizes.ndf * min(2**i, 8), strides, "VALID")
            x = leaky_relu(batch_normalization(x))
    with tf.variable_scope(f"layer_{sizes.halvings + 2}"):
        return tf.sigmoid(conv2d(tf.pad(x, around), 1, 1, "VALID"))


def model(inputs, targets, sizes):
    """The outputs, and the three losses."""
    with tf.variable_scope("generator"):
        outputs = generator(inputs, int(targets.shape[-1]), sizes)
    with tf.name_scope("real_discriminator"), tf.variable_scope("discriminator"):
        real = discriminator(inputs, targets, sizes)
    with tf.name_scope("fake_discriminator"), tf.variable_scope("discriminator", reuse=True):
        fake = discriminator(inputs, outputs, sizes)
    with tf.name_scope("discriminator_loss"):
        discrim_loss = tf.reduce_mean(-(tf.log(real + EPS) + tf.log(1 - fake + EPS)))
    with tf.name_scope("generator_loss"):
        gan = tf.reduce_mean(-tf.log(fake + EPS))
        l1 = tf.reduce_mean(tf.abs(targets - outputs))
    return outputs, (discrim_loss, gan, l1)


def variables_of(scope):
    return [v for v in tf.trainable_variables() if v.name.startswith(f"{scope}/")]


def generator_loss(gan, l1):
    return 1.0 * gan + 100.0 * l1


def train_op(losses, rate=2e-4):
    """The discriminator's step, then the generator's, the averages and ``global_step``."""
    discrim_loss, gan, l1 = losses
    with tf.name_scope("discriminator_train"):
        optimizer = tf.train.AdamOptimizer(rate, 0.5)
        grads = optimizer.compute_gradients(discrim_loss, variables_of("discriminator"))
        update = optimizer.apply_gradients(grads)
    with tf.name_scope("generator_train"), tf.control_dependencies([update]):
        optimizer = tf.train.AdamOptimizer(rate, 0.5)
        grads = optimizer.compute_gradients(generator_loss(gan, l1), variables_of("generator"))
        update = optimizer.apply_gradients(grads)
    averages = tf.train.ExponentialMovingAverage(0.99).apply([discrim_loss, gan, l1])
    step = tf.train.get_or_create_global_step()
    return tf.group(update, averages, step.assign(step + 1))
