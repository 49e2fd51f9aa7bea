"""`jscope.interop.tensorflow` against TensorFlow itself, in both directions."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope.interop import tensorflow

pytest.importorskip("tensorflow", reason="the reference needs tensorflow-cpu")
import tensorflow as tf

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)

MODEL = {
    "enc/w": (2, 3),
    "enc/b": (3,),
    "enc/deep/w": (3,),
    "enc_1/w": (2, 3),
    "head/w": (3, 2),
    "step": (),
}
SAVED = {
    "enc/w": (2, 3),
    "enc/b": (3,),
    "enc/deep/w": (3,),
    "enc_1/w": (2, 3),
    "body/w": (2, 3),
    "body/b": (3,),
    "body/deep/w": (3,),
    "body_1/w": (2, 3),
    "out": (3, 2),
    "step": (),
}


def random_values(shapes, seed):
    draw = np.random.default_rng(seed).standard_normal
    return {name: np.float32(draw(shape)) for name, shape in shapes.items()}


def variables_of(values):
    return {name: tf1.get_variable(name, initializer=value) for name, value in values.items()}


def save(path, values):
    with tf.Graph().as_default(), tf1.Session() as session:
        variables_of(values)
        session.run(tf1.global_variables_initializer())
        return tf1.train.Saver().save(session, str(path), write_meta_graph=False)


MAPS = {
    "scope": {"body/": "enc/"},
    "deeper scope": {"body/deep/": "enc/deep/"},
    "name": {"out": "head/w"},
    "names": {"out": "head/w", "body/w": "enc_1/w", "body/b": "enc/b"},
    "scope and name": {"body/": "enc/", "enc_1/w": "enc_1/w"},
    "scope not prefix": {"body_1/": "enc_1/"},
    "two scopes": {"body/": "enc/", "body_1/": "enc_1/"},
}


@pytest.mark.parametrize("title", MAPS)
def test_a_map_restores_what_init_from_checkpoint_does(title, tmp_path):
    path = save(tmp_path / "model", random_values(SAVED, 0))
    initial = random_values(MODEL, 1)
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = variables_of(initial)
        tf1.train.init_from_checkpoint(path, MAPS[title])
        session.run(tf1.global_variables_initializer())
        expected = session.run(variables)
    found, report = tensorflow.restore(js.VarTree(initial), path, MAPS[title])
    assert found == js.VarTree(expected)
    changed = [name for name in initial if (expected[name] != initial[name]).any()]
    assert sorted(report.restored) == sorted(changed)
    assert sorted([*report.restored, *report.kept]) == sorted(initial)


@pytest.mark.parametrize(("left", "right"), [("/", "/"), ("/", "model/"), ("model/", "/")])
def test_the_root_on_either_side(left, right, tmp_path):
    scopes = [side.strip("/") + "/" if side != "/" else "" for side in (left, right)]
    shapes = {"a/w": (2,), "b": (3,)}
    saved, initial = (
        random_values({scope + name: shape for name, shape in shapes.items()}, seed)
        for seed, scope in enumerate(scopes)
    )
    path = save(tmp_path / "model", saved)
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = variables_of(initial)
        tf1.train.init_from_checkpoint(path, {left: right})
        session.run(tf1.global_variables_initializer())
        expected = session.run(variables)
    found, _ = tensorflow.restore(js.VarTree(initial), path, {left: right})
    assert found == js.VarTree(expected)
    assert found != js.VarTree(initial)


@pytest.mark.parametrize(
    ("assignment_map", "text"),
    [
        ({"body/": "nothing/"}, "nothing like 'nothing/' in the target"),  # TF does nothing
        ({"nothing/": "enc/"}, "nothing like 'nothing/' in the checkpoint"),
        ({"out": "head/v"}, "no variable 'head/v' in the target (close names: 'head/w'"),
        ({"outer": "head/w"}, "no variable 'outer' in the checkpoint (close names: 'out'"),
        ({"out": "enc/w"}, "'enc/w' is (3, 2) in the checkpoint as 'out', (2, 3) in the target"),
        ({"out/": "head/"}, "nothing like 'out/' in the checkpoint"),
    ],
)
def test_what_tensorflow_refuses_or_ignores_is_an_error(assignment_map, text, tmp_path):
    path = save(tmp_path / "model", random_values(SAVED, 0))
    with pytest.raises(js.TreeMismatchError) as caught:
        tensorflow.restore(js.VarTree(random_values(MODEL, 1)), path, assignment_map)
    assert text in str(caught.value)


def test_partitioned_variables_are_one(tmp_path):
    with tf.Graph().as_default(), tf1.Session() as session:
        with tf1.variable_scope("a", partitioner=tf1.fixed_size_partitioner(3)):
            value = np.arange(14, dtype=np.float32).reshape(7, 2)
            tf1.get_variable("w", initializer=tf.constant(value))
        session.run(tf1.global_variables_initializer())
        path = tf1.train.Saver().save(session, str(tmp_path / "model"))
    tree, _ = tensorflow.restore({"b/w": jnp.zeros((7, 2))}, path, {"a/": "b/"})
    np.testing.assert_array_equal(tree["b/w"], value)


def test_averages_are_read_as_variables_to_restore_says(tmp_path):
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = variables_of(random_values({"a/w": (3,), "b": (2,)}, 0))
        step = tf1.get_variable("step", initializer=np.int64(3), trainable=False)
        average = tf1.train.ExponentialMovingAverage(0.5)
        update = average.apply()
        session.run(tf1.global_variables_initializer())
        session.run([tf1.assign(v, v + 1) for v in variables.values()])
        session.run(update)
        path = tf1.train.Saver().save(session, str(tmp_path / "model"))
        to_restore = average.variables_to_restore()
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = variables_of(random_values({"a/w": (3,), "b": (2,)}, 1))
        step = tf1.get_variable("step", initializer=np.int64(0), trainable=False)
        everything = {**variables, "step": step}
        renamed = {saved: everything[v.op.name] for saved, v in to_restore.items()}
        tf1.train.Saver(renamed).restore(session, path)
        expected = session.run(everything)
    assert tensorflow.load(path, averages="ExponentialMovingAverage") == js.VarTree(expected)
    assert tensorflow.load(path, select="step").size == 1


OPTIMIZERS = {
    "adadelta": lambda: tf1.train.AdadeltaOptimizer(),
    "adagrad": lambda: tf1.train.AdagradOptimizer(0.1),
    "adagrad da": lambda: tf1.train.AdagradDAOptimizer(0.1, tf1.train.get_or_create_global_step()),
    "adam": lambda: tf1.train.AdamOptimizer(),
    "ftrl": lambda: tf1.train.FtrlOptimizer(0.1),
    "momentum": lambda: tf1.train.MomentumOptimizer(0.1, 0.9),
    "proximal adagrad": lambda: tf1.train.ProximalAdagradOptimizer(0.1),
    "rmsprop": lambda: tf1.train.RMSPropOptimizer(0.1, centered=True),
}


@pytest.mark.parametrize("title", OPTIMIZERS)
def test_slots_are_what_optimizers_add_to_a_model(title, tmp_path):
    values = random_values({"a/w": (3,), "b": (2,), "Adam/w": (2,)}, 0)
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = variables_of(values)
        loss = sum(tf.reduce_sum(v) for v in variables.values())
        OPTIMIZERS[title]().minimize(loss)
        session.run(tf1.global_variables_initializer())
        path = tf1.train.Saver().save(session, str(tmp_path / "model"), write_meta_graph=False)
    assert len(tensorflow.load(path)) > 3
    assert set(tensorflow.load(path, drop=[tensorflow.SLOTS, "global_step"])) == set(values)


# Back to TensorFlow.


def test_export_writes_the_files_that_tensorflow_writes(tmp_path):
    values = random_values(SAVED, 0)
    theirs = Path(save(tmp_path / "tf" / "model-1", values))
    ours = Path(tensorflow.export(js.VarTree(values), tmp_path / "js" / "model-1"))
    for end in (".index", ".data-00000-of-00001"):
        assert Path(f"{ours}{end}").read_bytes() == Path(f"{theirs}{end}").read_bytes()
    latest = tf.train.latest_checkpoint(str(tmp_path / "js"))
    assert latest == str(ours)


def test_tensorflow_restores_what_export_writes(tmp_path):
    tree = js.VarTree(
        {
            "encoder/layers/w": jnp.arange(12, dtype=jnp.bfloat16).reshape(3, 2, 2),
            "encoder/emb": jnp.ones((4, 2)),
            "head/w": jnp.arange(6.0).reshape(2, 3),
            "step": jnp.int32(7),
        }
    )
    rules = {
        "/": "/",
        "bert/": "encoder/",
        "bert/layer_*/kernel": "encoder/layers/*/w",
        "out/kernel": tensorflow.Through("head/w", np.transpose, np.transpose),
    }
    path = tensorflow.export(tree, tmp_path / "model", rules, stacks=["encoder/layers"])
    shapes = {"bert/emb": (4, 2), "out/kernel": (3, 2), "step": ()}
    shapes |= {f"bert/layer_{i}/kernel": (2, 2) for i in range(3)}
    assert dict(tf.train.list_variables(path)) == {n: list(s) for n, s in shapes.items()}
    with tf.Graph().as_default(), tf1.Session() as session:
        dtypes = {"step": tf.int32} | {f"bert/layer_{i}/kernel": tf.bfloat16 for i in range(3)}
        variables = {
            name: tf1.get_variable(name, shape, dtypes.get(name, tf.float32))
            for name, shape in shapes.items()
        }
        tf1.train.Saver().restore(session, path)
        values = session.run(variables)
    np.testing.assert_array_equal(values["out/kernel"], np.asarray(tree["head/w"]).T)
    for i in range(3):
        expected = np.asarray(tree["encoder/layers/w"])[i]
        np.testing.assert_array_equal(values[f"bert/layer_{i}/kernel"], expected)
    again, _ = tensorflow.restore(tree, path, rules, stacks=["encoder/layers"])
    assert again == tree


# Object-based checkpoints.


def test_object_based_checkpoints_by_full_name_or_key(tmp_path):
    model = tf.Module()
    model.first = tf.Variable(np.float32([1, 2]), name="dense/kernel")
    model.twins = [tf.Variable(np.float32([i]), name="twin") for i in range(2)]
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "ckpt"))
    tree = tensorflow.load(path)
    assert tree == js.VarTree(
        {
            "dense/kernel": np.float32([1, 2]),
            "model/twins/0": np.float32([0]),
            "model/twins/1": np.float32([1]),
        }
    )
    for spelled in ("dense/kernel", "model/first", "model/first/.ATTRIBUTES/VARIABLE_VALUE"):
        restored, _ = tensorflow.restore({"w": jnp.zeros(2)}, path, {spelled: "w"})
        np.testing.assert_array_equal(restored["w"], [1, 2])
