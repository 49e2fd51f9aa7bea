"""`before.py` in jscope: the same variables by the same names, the
same numbers, and the same checkpoints, without TensorFlow.
"""

import jax
import jax.numpy as jnp
import optax

import jscope as js
from jscope import initializers as init
from jscope import layers, tf1
from jscope.interop import tensorflow  # its checkpoints, not TF

# 1. Layers.


def conv(scope, x, features):
    w = scope.get_variable("weights", (3, 3, x.shape[-1], features))
    b = scope.get_variable(
        "biases",
        (features,),
        initializer=init.zeros,
        regularizer=js.no_regularizer,
    )
    y = jax.lax.conv_general_dilated(
        x,
        w,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jax.nn.relu(y + b)


def dense(scope, x, features):
    w = scope.get_variable("weights", (x.shape[-1], features))
    b = scope.get_variable(
        "biases",
        (features,),
        initializer=init.zeros,
        regularizer=js.no_regularizer,
    )
    return x @ w + b


# 2. The model.


def decay(w):
    return 1e-3 * jnp.sum(w * w) / 2


def network(scope, images, classes, head=None):
    x = images
    with scope.variable_scope("features", regularizer=decay) as s:
        for features in (8, 16):
            with s.variable_scope(None, "conv") as c:
                x = conv(c, x, features)
            x = layers.max_pool(x, pool_size=2, padding="SAME")
        x = x.reshape(x.shape[0], -1)
        with s.variable_scope("local") as local:
            x = jax.nn.relu(dense(local, x, 32))
    with scope.variable_scope("head", initializer=head) as s:
        return dense(s, x, classes)


# 3. The loss, over two towers that share their variables.


def cross_entropy(logits, labels):
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, labels
    )
    return losses.mean()


def towers(scope, images, labels, classes):
    halves = zip(jnp.split(images, 2), jnp.split(labels, 2))
    losses = []
    for i, (x, y) in enumerate(halves):
        with scope.variable_scope(scope, reuse=i > 0) as root:
            logits = network(root, x, classes)
            losses.append(cross_entropy(logits, y))
    return sum(losses) / 2


# 4. Training, with moving averages.


def train(images, labels, steps, path, start=None):
    declared = js.declare(towers)(images, labels, classes=10)
    ema = js.ExponentialMovingAverage(0.99)
    optimizer = tf1.train.MomentumOptimizer(0.05, 0.9)

    @jax.jit
    def update(training):
        params, averages, opt_state, step = training

        def loss(params):
            scope = js.Scope(params)
            loss = towers(scope, images, labels, classes=10)
            return loss + declared.regularization_loss(params)

        grads = jax.grad(loss)(params)
        changes, opt_state = optimizer.update(
            grads, opt_state, params
        )
        params = optax.apply_updates(params, changes)
        step = step + 1
        averages = ema.apply(averages, params, num_updates=step)
        return tf1.train.TrainingState(
            params, averages, opt_state, step
        )

    if start:
        training = tf1.train.restore(
            declared, start, optimizer, others=f"**/{ema.name}"
        )
    else:
        params = declared.init(jax.random.key(0))
        training = tf1.train.TrainingState(
            params,
            ema.init(params),
            optimizer.init(params),
            global_step=jnp.int32(0),
        )
    for _ in range(steps):
        training = update(training)
    tf1.train.save(training, path, optimizer)


# 5. Fine-tuning: averaged features, a head that begins at zero.


def fine_tune(images, labels, steps, path):
    declared = js.declare(network)(
        images, classes=5, head=init.zeros
    )
    ema = js.ExponentialMovingAverage(0.99)
    names = ema.variables_to_restore(declared)
    names = {
        stored: variable
        for stored, variable in names.items()
        if stored.startswith("features/")
    }
    variables, _ = tensorflow.restore(
        declared, path, names, key=jax.random.key(1)
    )
    head, features = js.partition(variables, "head/**")
    optimizer = optax.sgd(0.05, 0.9)

    @jax.jit
    def update(head, opt_state):
        def loss(head):
            logits = network(
                js.Scope(head, features), images, classes=5
            )
            return cross_entropy(logits, labels)

        changes, opt_state = optimizer.update(
            jax.grad(loss)(head), opt_state
        )
        return optax.apply_updates(head, changes), opt_state

    opt_state = optimizer.init(head)
    for _ in range(steps):
        head, opt_state = update(head, opt_state)
    return network(js.Scope(head, features), images, classes=5)
