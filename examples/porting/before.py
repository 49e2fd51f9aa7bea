"""A TensorFlow 1 program: a convolutional classifier, trained in
two towers that share their variables, with weight decay and moving
averages, then fine-tuned from the averages. `after.py` is the same
in jscope; `docs/from_tf1.md` shows them side by side.
"""

import numpy as np
import tensorflow.compat.v1 as tf

# 1. Layers.


def conv(x, features):
    w = tf.get_variable("weights", [3, 3, x.shape[-1], features])
    b = tf.get_variable(
        "biases",
        [features],
        initializer=tf.zeros_initializer(),
        regularizer=tf.no_regularizer,
    )
    y = tf.nn.conv2d(x, w, strides=1, padding="SAME")
    return tf.nn.relu(y + b)


def dense(x, features):
    w = tf.get_variable("weights", [x.shape[-1], features])
    b = tf.get_variable(
        "biases",
        [features],
        initializer=tf.zeros_initializer(),
        regularizer=tf.no_regularizer,
    )
    return tf.matmul(x, w) + b


# 2. The model.


def decay(w):
    return 1e-3 * tf.nn.l2_loss(w)


def network(images, classes, head=None):
    x = images
    with tf.variable_scope("features", regularizer=decay):
        for features in (8, 16):
            with tf.variable_scope(None, "conv"):
                x = conv(x, features)
            x = tf.nn.max_pool2d(x, 2, 2, "SAME")
        x = tf.reshape(x, [-1, int(np.prod(x.shape[1:]))])
        with tf.variable_scope("local"):
            x = tf.nn.relu(dense(x, 32))
    with tf.variable_scope("head", initializer=head):
        return dense(x, classes)


# 3. The loss, over two towers that share their variables.


def cross_entropy(logits, labels):
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits
    )
    return tf.reduce_mean(losses)


def towers(images, labels, classes):
    halves = zip(tf.split(images, 2), tf.split(labels, 2))
    losses = []
    for i, (x, y) in enumerate(halves):
        root = tf.get_variable_scope()
        with tf.variable_scope(root, reuse=i > 0):
            logits = network(x, classes)
            losses.append(cross_entropy(logits, y))
    return tf.add_n(losses) / 2


# 4. Training, with moving averages.


def train(images, labels, steps, path, start=None):
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        x, y = tf.constant(images), tf.constant(labels)
        loss = towers(x, y, classes=10)
        loss += tf.losses.get_regularization_loss()
        optimizer = tf.train.MomentumOptimizer(0.05, 0.9)
        update = optimizer.minimize(loss, step)
        ema = tf.train.ExponentialMovingAverage(0.99, step)
        with tf.control_dependencies([update]):
            update = ema.apply(tf.trainable_variables())
        saver = tf.train.Saver()
        session.run(tf.global_variables_initializer())
        if start:
            saver.restore(session, start)
        for _ in range(steps):
            session.run(update)
        saver.save(session, path)


# 5. Fine-tuning: averaged features, a head that begins at zero.


def fine_tune(images, labels, steps, path):
    with tf.Graph().as_default(), tf.Session() as session:
        x, y = tf.constant(images), tf.constant(labels)
        zeros = tf.zeros_initializer()
        logits = network(x, classes=5, head=zeros)
        ema = tf.train.ExponentialMovingAverage(0.99)
        names = ema.variables_to_restore()
        names = {
            stored: variable
            for stored, variable in names.items()
            if stored.startswith("features/")
        }
        saver = tf.train.Saver(names)
        optimizer = tf.train.MomentumOptimizer(0.05, 0.9)
        update = optimizer.minimize(
            cross_entropy(logits, y),
            var_list=tf.trainable_variables("head/"),
        )
        session.run(tf.global_variables_initializer())
        saver.restore(session, path)
        for _ in range(steps):
            session.run(update)
        return session.run(logits)
