"""TF1's names that jscope doesn't have, and what does their job: one table for all modules.

Porters write TF1's names from memory. A module whose ``__getattr__`` raises `no_attribute` answers
with the line to write. The modules define it where type checkers don't look, so that for these a
name that doesn't exist stays an error.

Imports: standard library only.
"""

import difflib
from collections.abc import Iterable, Mapping
from types import ModuleType

_DECLARED = "js.declare(model)(...) gives a declaration of them: "
_SCOPE = "a method of the scope that the model is given: "
_NO_GRAPH = "there is no graph and no session: "

_OF_TF = {
    "variable_scope": _SCOPE + "scope.variable_scope(name, ...), or scope / name",
    "get_local_variable": _SCOPE + "scope.get_local_variable(name, shape, ...)",
    "variable_op_scope": _SCOPE + "scope.variable_scope(name, default_name)",
    "variable_creator_scope": _SCOPE + "scope.variable_creator_scope(creator)",
    "get_variable_scope": "the scope itself, the model's first argument",
    "name_scope": "jax.named_scope(name); `with scope.variable_scope(name) as s:` names too",
    "Variable": "scope.get_variable(name, initializer=value), in a model",
    "no_op": "not needed: a function that returns nothing new changes nothing",
    "placeholder": _NO_GRAPH + "an argument of the model",
    "placeholder_with_default": _NO_GRAPH + "an argument of the model, with a default",
    "Session": _NO_GRAPH + "call jax.jit(step)(params, batch), a function from values to values",
    "InteractiveSession": _NO_GRAPH + "call the model: model(js.Scope(tree), x)",
    "Graph": _NO_GRAPH + "js.declare(model)(x) runs a model without computing",
    "get_default_graph": _NO_GRAPH + "js.declare(model)(x) runs a model without computing",
    "reset_default_graph": _NO_GRAPH + "each js.declare begins anew",
    "control_dependencies": _NO_GRAPH + "results depend on arguments; js.with_updates returns "
    "what a model assigns",
    "group": _NO_GRAPH + "return all results",
    "while_loop": "jax.lax.while_loop(cond, body, start), with one value, such as a tuple",
    "cond": "jax.lax.cond(predicate, true_fn, false_fn, *operands)",
    "case": "jax.lax.switch(index, branches, *operands)",
    "map_fn": "jax.lax.map(f, xs), or jax.vmap(f)(xs)",
    "scan": "jax.lax.scan(f, start, xs)",
    "py_func": "jax.pure_callback(f, shapes, *args)",
    "gradients": "jax.grad(loss)(params)",
    "stop_gradient": "jax.lax.stop_gradient(x)",
    "custom_gradient": "jax.custom_vjp(f)",
    "hessians": "jax.hessian(loss)(params)",
    "set_random_seed": "jax.random.key(seed), which declared.init takes",
    "random_normal": "jax.random.normal(key, shape); as an initial value, "
    "initializers.random_normal(mean, stddev)",
    "random_uniform": "jax.random.uniform(key, shape); as an initial value, "
    "initializers.random_uniform(low, high)",
    "truncated_normal": "initializers.truncated_normal(mean, stddev)",
    "global_variables": _DECLARED + "declared.collection('variables')",
    "all_variables": _DECLARED + "declared.collection('variables')",
    "trainable_variables": _DECLARED + "declared.trainable_variables(scope)",
    "local_variables": _DECLARED + "declared.collection('local_variables')",
    "model_variables": _DECLARED + "declared.collection('model_variables')",
    "moving_average_variables": _DECLARED + "declared.collection('moving_average_variables')",
    "get_collection": _DECLARED + "declared.collection(key, scope)",
    "add_to_collection": "collections=[key] of scope.get_variable; for a value of a model, "
    "scope.record(name, value)",
    "global_variables_initializer": _DECLARED + "declared.init(key)",
    "initialize_all_variables": _DECLARED + "declared.init(key)",
    "variables_initializer": _DECLARED + "declared.init(key, only=selector, given=tree)",
    "local_variables_initializer": _DECLARED
    + "declared.init(key, only=declared.collection('local_variables'))",
    "report_uninitialized_variables": _DECLARED + "declared.missing(tree)",
    "assert_variables_initialized": _DECLARED + "declared.check(tree)",
    "is_variable_initialized": "'name' in tree",
    "losses": "Optax's losses; of regularizers, declared.regularization_loss(tree)",
    "contrib": "js.tf1.contrib for contrib's and slim's layers; js.tf1.arg_scope",
    "slim": "js.tf1.contrib for slim's layers; js.tf1.arg_scope",
    "arg_scope": "js.tf1.arg_scope(scope, [functions], **defaults)",
    "add_arg_scope": "@js.tf1.add_arg_scope",
    "train": "js.tf1.train for optimizers; js.Saver for checkpoints",
    "nn": "jax.nn and jax.lax; for RNNs js.tf1.layers; for dropout js.layers.dropout",
    "summary": "scope.record(name, value), which js.with_records collects for any writer",
    "dynamic_rnn": "js.tf1.layers.dynamic_rnn(scope, cell, x, dtype=x.dtype)",
    "get_or_create_global_step": "a counter of yours: step = step + 1; in TF1's checkpoints it "
    "is 'global_step', int64",
    "get_global_step": "a counter of yours: step = step + 1",
    "fixed_size_partitioner": "a partitioner of js.sharding: f(name, shape, dtype) -> "
    "PartitionSpec",
    "variable_axis_size_partitioner": "a partitioner of js.sharding",
    "min_max_variable_partitioner": "a partitioner of js.sharding",
    "init_from_checkpoint": "jscope.interop.tensorflow.restore(declared, path, map, key=key)",
    "assign_from_checkpoint_fn": "js.tf1.assign_from_checkpoint_fn(path, names)",
    "assign_from_checkpoint": "jscope.interop.tensorflow.restore(declared, path, map)",
    "warm_start": "js.tf1.warm_start(declared, path, pattern, vocabularies, names, key=key)",
    "VocabInfo": "js.tf1.VocabInfo(new_vocab, new_vocab_size, ...)",
    "NewCheckpointReader": "jscope.tf_checkpoint.open(path)",
    "CheckpointManager": "js.Saver(directory, max_to_keep=...)",
    "update_checkpoint_state": "jscope.tf_checkpoint.write_state(...)",
    "get_checkpoint_state": "jscope.tf_checkpoint.read_state(...)",
    "embedding_lookup": "js.layers.embedding(scope, ids, input_dim=..., output_dim=...), or "
    "table[ids]",
}

_IN_TF1 = [
    "contrib",
    "train",
    "arg_scope",
    "add_arg_scope",
    "warm_start",
    "VocabInfo",
    "assign_from_checkpoint_fn",
]

_IN_TRAIN = (
    "VocabInfo",
    "warm_start",
    "init_from_checkpoint",
    "get_global_step",
    "get_or_create_global_step",
    "NewCheckpointReader",
    "CheckpointManager",
    "get_checkpoint_state",
    "update_checkpoint_state",
)

# From the names of tf.layers and contrib to those of jscope.layers and of jscope.tf1.
_LAYERS = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), ("conv", "layers")),
    **dict.fromkeys(("conv2d_transpose", "conv3d_transpose"), ("conv_transpose", "layers")),
    **dict.fromkeys(("separable_conv1d", "separable_conv2d"), ("conv", "layers")),
    **dict.fromkeys(("max_pooling1d", "max_pooling2d", "max_pooling3d"), ("max_pool", "layers")),
    **dict.fromkeys(
        ("average_pooling1d", "average_pooling2d", "average_pooling3d"), ("avg_pool", "layers")
    ),
    "batch_normalization": ("batch_norm", "layers"),
    "fully_connected": ("dense", "contrib"),
    "max_pool2d": ("max_pool", "contrib"),
    "avg_pool2d": ("avg_pool", "contrib"),
}

_CLASSES = {
    "Dense": "dense",
    "Conv1D": "conv1d",
    "Conv2D": "conv2d",
    "Conv3D": "conv3d",
    "Conv2DTranspose": "conv2d_transpose",
    "SeparableConv2D": "separable_conv2d",
    "BatchNormalization": "batch_normalization",
    "Dropout": "dropout",
    "Flatten": "flatten",
    "Embedding": "embedding",
    "MaxPooling2D": "max_pooling2d",
    "AveragePooling2D": "average_pooling2d",
}

_CELLS = ("RNNCell", "BasicRNNCell", "BasicLSTMCell", "LSTMCell", "GRUCell", "MultiRNNCell")
_LOOPS = ("dynamic_rnn", "static_rnn", "bidirectional_dynamic_rnn", "DropoutWrapper")
_OF_RNNS = {name: f"js.tf1.layers.{name}" for name in (*_CELLS, *_LOOPS)}
_RNN = "js.tf1.layers, such as js.tf1.layers.BasicLSTMCell and js.tf1.layers.dynamic_rnn"
_NO_CELLS = {
    "rnn": _RNN,
    "rnn_cell": _RNN,
    "raw_rnn": "jax.lax.while_loop",
    **dict.fromkeys(("LSTMBlockCell", "CudnnCompatibleLSTMCell"), "js.tf1.layers.BasicLSTMCell"),
    "LayerNormBasicLSTMCell": "a subclass of js.tf1.layers.RNNCell, with js.layers.layer_norm",
    "ResidualWrapper": "a subclass of js.tf1.layers.RNNCell, which adds its input",
}

_TABLES: dict[str, dict[str, str]] = {
    "jscope": _OF_TF,
    "jscope.tf1": {
        **{name: text for name, text in _OF_TF.items() if name not in _IN_TF1},
        "get_variable": _SCOPE + "scope.get_variable(name, shape, ...)",
        "rnn": _RNN,
    },
    "jscope.layers": {
        **{
            name: f"layers.{ours}(scope / name, x, ...), which chooses no name; with TF1's "
            f"signature and default names, js.tf1.{home}.{name}(scope, x, ...)"
            for name, (ours, home) in _LAYERS.items()
        },
        **{
            name: f"a function: js.tf1.layers.{function}(scope, x, ...)"
            for name, function in _CLASSES.items()
        },
        **_OF_RNNS,
        **_NO_CELLS,
        "flatten": "x.reshape(x.shape[0], -1)",
        "arg_scope": "js.tf1.arg_scope, for js.tf1.layers and js.tf1.contrib",
    },
    "jscope.tf1.layers": {
        **{
            name: f"a function: tf1.layers.{function}(scope, x, ..., name=name), and reuse=True to "
            "call it again"
            for name, function in _CLASSES.items()
        },
        **_NO_CELLS,
        "arg_scope": "js.tf1.arg_scope",
        "fully_connected": "js.tf1.contrib.fully_connected",
        "layer_norm": "js.tf1.contrib.layer_norm, or js.layers.layer_norm",
    },
    "jscope.tf1.contrib": {
        **_OF_RNNS,
        **_NO_CELLS,
        "slim": "js.tf1.contrib itself: from jscope.tf1 import contrib as slim",
        "framework": "js.tf1.arg_scope, js.tf1.assign_from_checkpoint_fn, js.tf1.warm_start",
        "maxout": "jnp.max over a reshape of the channels",
        "unit_norm": "x / jnp.linalg.norm(x, axis=axis, keepdims=True)",
        "relu6": "js.tf1.contrib.fully_connected(scope, x, n, activation_fn=jax.nn.relu6)",
        "model_variable": "scope.get_variable(name, ..., collections=contrib.model_variables())",
        "variable": "scope.get_variable(name, ...)",
        "optimize_loss": "js.tf1.train, and jax.grad",
        "get_or_create_global_step": _OF_TF["get_or_create_global_step"],
        "assign_from_checkpoint_fn": _OF_TF["assign_from_checkpoint_fn"],
        "init_from_checkpoint": _OF_TF["init_from_checkpoint"],
        "get_variables_to_restore": "js.drop(declared, selector), as select= or drop= of "
        "tensorflow.restore",
        "get_model_variables": "declared.collection('model_variables')",
        "get_trainable_variables": "declared.trainable_variables(scope)",
        "losses": "declared.regularization_loss(tree), and Optax's losses",
        "learning": "a jitted step, and a loop",
        "instance_norm": "js.layers.layer_norm(scope, x, axis=(1, 2))",
        "group_norm": "a reshape, and js.layers.layer_norm over the axes of a group",
        "embedding_lookup_unique": _OF_TF["embedding_lookup"],
    },
    "jscope.tf1.train": {
        **{name: _OF_TF[name] for name in _IN_TRAIN},
        "Saver": "js.Saver(directory); TF1's files are written by "
        "js.tf1.train.save(training_state, path, optimizer), and read by "
        "js.tf1.train.restore(declared, path, optimizer)",
        "ExponentialMovingAverage": "js.ExponentialMovingAverage(decay)",
        "latest_checkpoint": "js.latest_checkpoint(directory); of TF1's files, "
        "jscope.tf_checkpoint.latest_checkpoint(directory)",
        "checkpoint_exists": "js.checkpoint_exists(path)",
        "checkpoints_iterator": "js.checkpoints_iterator(directory)",
        "list_variables": "js.list_variables(path); of TF1's files, "
        "jscope.tf_checkpoint.list_variables(path)",
        "load_variable": "js.load_variable(path, name); of TF1's files, "
        "jscope.tf_checkpoint.load_variable(path, name)",
        "load_checkpoint": _OF_TF["NewCheckpointReader"],
        **dict.fromkeys(
            ("MonitoredSession", "MonitoredTrainingSession", "SingularMonitoredSession"),
            "a loop in Python around a jitted step, and a js.Saver",
        ),
        "SyncReplicasOptimizer": "jax.jit over a mesh, or jax.lax.pmean(grads, axis_name)",
    },
    "jscope.tf_checkpoint": {
        "load_checkpoint": _OF_TF["NewCheckpointReader"],
        "NewCheckpointReader": _OF_TF["NewCheckpointReader"],
        "get_checkpoint_state": _OF_TF["get_checkpoint_state"],
        "update_checkpoint_state": _OF_TF["update_checkpoint_state"],
        "Saver": "js.Saver, or jscope.tf_checkpoint.Writer for TF1's files",
        "save": "jscope.tf_checkpoint.write(path, tree)",
        "init_from_checkpoint": _OF_TF["init_from_checkpoint"],
    },
    "jscope.initializers": {
        "xavier_initializer": "init.glorot_uniform()",
        "xavier": "init.glorot_uniform()",
        "random_normal_initializer": "init.random_normal(mean, stddev)",
        "uniform_unit_scaling_initializer": "init.uniform_unit_scaling(factor)",
        "variance_scaling_initializer": "init.variance_scaling(scale, mode, distribution); "
        "contrib's is js.tf1.contrib.variance_scaling_initializer",
        "convolutional_delta_orthogonal": "init.delta_orthogonal(gain)",
        "RandomNormal": "init.random_normal(mean, stddev)",
        "RandomUniform": "init.random_uniform(low, high)",
        "TruncatedNormal": "init.truncated_normal(mean, stddev)",
        "VarianceScaling": "init.variance_scaling(scale, mode, distribution)",
        "Orthogonal": "init.orthogonal(gain)",
        "Identity": "init.identity(gain)",
        "Constant": "init.constant(value)",
        "Zeros": "init.zeros",
        "Ones": "init.ones",
        "eye": "init.identity()",
    },
    "jscope.regularizers": {
        "l2_loss": "regularizers.l2(1.0), which is sum(w**2) / 2",
        "get_regularization_loss": "declared.regularization_loss(tree)",
        "apply_regularization": "declared.regularization_loss(tree)",
    },
    "jscope.interop.tensorflow": {
        "init_from_checkpoint": "tensorflow.restore(declared, path, {'a/': 'b/'}, key=key)",
        "warm_start": _OF_TF["warm_start"],
        "VocabInfo": _OF_TF["VocabInfo"],
        "assign_from_checkpoint": "tensorflow.restore(declared, path, map)",
        "assign_from_checkpoint_fn": _OF_TF["assign_from_checkpoint_fn"],
        "Saver": "js.Saver; TF1's files are written by tensorflow.export(tree, path)",
        "save": "tensorflow.export(tree, path)",
        "train": "tensorflow.load, restore and export are for TF1's checkpoints",
        "list_variables": "jscope.tf_checkpoint.list_variables(path)",
        "load_variable": "jscope.tf_checkpoint.load_variable(path, name)",
        "load_checkpoint": "jscope.tf_checkpoint.open(path)",
        "latest_checkpoint": "jscope.tf_checkpoint.latest_checkpoint(directory)",
    },
}

_ENDING = {
    "jscope": "js.initializers",
    "jscope.tf1": "js.initializers",
    "jscope.initializers": "init",
    "jscope.layers": "js.initializers",
    "jscope.regularizers": "regularizers",
}


def no_attribute(module: str, name: str, known: Iterable[str] = ()) -> AttributeError:
    """Compose the error for a name, maybe one of TF1's, that a module doesn't have.

    Args:
        module: The module's whole name.
        name: The name that was looked for.
        known: The names there are.
    """
    error = f"module {module!r} has no attribute {name!r}"
    if name.startswith("_"):
        return AttributeError(error)
    instead = _instead(module, name)
    if instead is not None:
        return AttributeError(f"{error}. What TF1 calls {name} is here {instead}.")
    near = difflib.get_close_matches(name, known, n=1)
    return AttributeError(f"{error}. Did you mean {near[0]!r}?" if near else error)


def public(namespace: Mapping[str, object]) -> list[str]:
    """The names a module has beside TF1's: its ``__all__``, or those defined in or below it."""
    listed = namespace.get("__all__")
    if isinstance(listed, list):
        return sorted(listed)
    home = str(namespace["__name__"])

    def is_own(value: object) -> bool:
        module = str(getattr(value, "__module__", ""))
        return not isinstance(value, ModuleType) and f"{module}.".startswith(f"{home}.")

    return sorted(n for n, value in namespace.items() if not n.startswith("_") and is_own(value))


_OF_OBJECTS: dict[str, dict[str, str]] = {
    "Scope": {
        "get_collection": _OF_TF["get_collection"],
        "global_variables": "scope.variables(), names",
        "local_variables": _OF_TF["local_variables"],
        **{
            f"set_{argument}": f"another scope: scope.variable_scope(scope, {argument}=...)"
            for argument in ("initializer", "regularizer", "dtype", "partitioner", "custom_getter")
        },
    },
    "Saver": {
        "last_checkpoints": "saver.all_steps(), the steps in the directory",
        **dict.fromkeys(
            (
                "recover_last_checkpoints",
                "set_last_checkpoints",
                "set_last_checkpoints_with_time",
            ),
            "not needed: a Saver finds its steps in the directory, saver.all_steps()",
        ),
        "export_meta_graph": "not needed: " + _NO_GRAPH + "the model is its Python function",
    },
}


def no_attribute_of(thing: object, name: str) -> AttributeError:
    """Compose the error for a name, maybe one of TF1's, that an object doesn't have."""
    kind = type(thing).__name__
    error = f"{kind!r} object has no attribute {name!r}"
    instead = _OF_OBJECTS.get(kind, {}).get(name)
    if instead is not None:
        error = f"{error}. What TF1 calls {name} is here {instead}."
    return AttributeError(error, name=name, obj=thing)


def _instead(module: str, name: str) -> str | None:
    """What does the job of a name of TF1, which a module doesn't have; or None."""
    found = _TABLES.get(module, {}).get(name)
    if found is not None:
        return found
    for ending in ("_initializer", "_regularizer"):
        if name.endswith(ending) and module in _ENDING:
            home = "js.regularizers" if ending == "_regularizer" else _ENDING[module]
            home = "regularizers" if module == "jscope.regularizers" else home
            short = name.removesuffix(ending)
            called = "" if short in ("zeros", "ones") else "(...)"
            return f"{home}.{short}{called}"
    return None
