"""`tf1.warm_start` against ``tf.train.warm_start``, from the same files."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import initializers as init
from jscope import tf1

tf = pytest.importorskip("tensorflow").compat.v1

OLD = {
    "emb/w": np.arange(15, dtype=np.float32).reshape(5, 3) + 100,
    "emb/b": np.arange(3, dtype=np.float32) + 200,
    "head/w": np.arange(15, dtype=np.float32).reshape(3, 5) + 300,
    "old_name": np.full((2,), 7, np.float32),
    "counter": np.int32(41),
}


@pytest.fixture
def files(tmp_path):
    """A checkpoint of ``OLD``, and vocabularies of it and of the new model."""
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in OLD.items():
            tf.get_variable(name, initializer=value)
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    (tmp_path / "old.txt").write_text("apple\nbanana\nguava\norange\nplum\n")
    (tmp_path / "new.txt").write_text("orange\nkiwi\napple\nplum\nfig\n")
    return path, str(tmp_path / "old.txt"), str(tmp_path / "new.txt")


def variables(get_variable, ones, zeros, rows, columns):
    get_variable("emb/w", (rows, 3), initializer=ones)
    get_variable("emb/b", (3,), initializer=ones)
    get_variable("head/w", (3, columns), initializer=ones)
    get_variable("new_name", (2,), initializer=ones)
    get_variable("counter", (), np.int32, initializer=zeros, trainable=False)


def model(scope, rows, columns):
    variables(scope.get_variable, init.ones, init.zeros, rows, columns)


def of_tensorflow(rows, columns, *args):
    def get_variable(name, shape, dtype=np.float32, **kwargs):
        return tf.get_variable(name, shape, tf.as_dtype(dtype), **kwargs)

    with tf.Graph().as_default(), tf.Session() as session:
        variables(get_variable, tf.ones_initializer(), tf.zeros_initializer(), rows, columns)
        tf.train.warm_start(*args)
        session.run(tf.global_variables_initializer())
        return {v.op.name: session.run(v) for v in tf.global_variables()}


def halves(shape, dtype=None, partition_info=None):
    """TF's constant_initializer can't take the shape that TF's warm_start passes."""
    del partition_info
    return tf.fill(shape, tf.constant(0.5, dtype))


def infos(kind, new, old, half, old_size):
    return {
        "emb/w": kind(new, 4, 2, old, old_size, half, 0),
        "head/w": kind(new, 4, 1, old, old_size, None, 1),
    }


@pytest.mark.parametrize("old_size", [-1, 3])
@pytest.mark.parametrize("which", [".*", "emb", None, ["head", "counter", "emb"]])
def test_vocabularies_rows_and_columns_are_tensorflows(files, which, old_size):
    path, old, new = files
    names = {"new_name": "old_name"} if which == ".*" else {}
    theirs = infos(tf.train.VocabInfo, new, old, halves, old_size)
    ours = infos(tf1.VocabInfo, new, old, init.constant(0.5), old_size)
    if which == "emb":
        del theirs["head/w"], ours["head/w"]
    size = (6, 5)
    expected = of_tensorflow(*size, path, which, theirs, names)
    declared = js.declare(model)(*size)
    tree = tf1.warm_start(declared, path, which, ours, names, key=jax.random.key(0))
    assert set(tree) == set(expected)
    if old_size == 3 and which != "emb":  # which TF ignores for columns
        assert (expected["head/w"][:, [0, 3]] != 0).all()  # orange, plum
        expected["head/w"][:, [0, 3]] = 0
    for name, value in expected.items():
        np.testing.assert_array_equal(tree[name], value, err_msg=name)


@pytest.mark.parametrize("which", ["emb/w", ["emb/w[^/]", "counter"], []])
def test_patterns_are_matched_as_tensorflow_matches_them(files, which):
    names = {}
    expected = of_tensorflow(5, 5, files[0], which, None, names)
    declared = js.declare(model)(5, 5)
    tree = tf1.warm_start(declared, files[0], which, None, names, key=jax.random.key(0))
    for name, value in expected.items():
        np.testing.assert_array_equal(tree[name], value, err_msg=name)


def test_a_tree_of_values_is_warm_started_without_a_key(files):
    start = {"emb/b": jnp.zeros(3), "mine": jnp.zeros(2)}
    tree = tf1.warm_start(start, files[0], "emb")
    np.testing.assert_array_equal(tree["emb/b"], OLD["emb/b"])
    np.testing.assert_array_equal(tree["mine"], [0, 0])


def test_one_saved_variable_goes_to_two(files):
    start = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    tree = tf1.warm_start(start, files[0], ".*", None, {"a": "old_name", "b": "old_name"})
    np.testing.assert_array_equal(tree["a"], [7, 7])
    np.testing.assert_array_equal(tree["b"], [7, 7])


def test_a_vocabulary_of_biases_has_one_axis(files):
    path, old, new = files
    (start,) = ({"bias": jnp.zeros(4)},)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("bias", initializer=np.arange(5, dtype=np.float32) + 1)
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, path + "-1")
    info = tf1.VocabInfo(new, 4, 0, old)
    tree = tf1.warm_start(start, path, ".*", {"bias": info})
    np.testing.assert_array_equal(tree["bias"], [4, 0, 1, 5])  # orange, kiwi, apple, plum


def test_a_backup_initializer_is_random_by_the_variables_name(files):
    path, old, new = files
    info = tf1.VocabInfo(new, 4, 1, old, backup_initializer=init.random_normal())
    start = {"emb/w": jnp.zeros((5, 3))}
    key = jax.random.key(3)
    tree = tf1.warm_start(start, path, ".*", {"emb/w": info}, key=key)
    own = js.declare(lambda s: s.get_variable("emb/w", (5, 3), initializer=init.random_normal()))()
    np.testing.assert_array_equal(tree["emb/w"][1], own.init(key)["emb/w"][1])  # kiwi
    np.testing.assert_array_equal(tree["emb/w"][2], OLD["emb/w"][0])  # apple
    with pytest.raises(js.CheckpointValueError, match="backup_initializer of 'emb/w' needs"):
        tf1.warm_start(start, path, ".*", {"emb/w": info})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([1],), "it must be all `str`"),
        ((3,), "`vars_to_warm_start must be a `list` or `str`"),
        ((".*", None, {"zz": "a"}), "in var_name_to_prev_var_name that were not used: 'zz'"),
        (
            (".*", {"zz": tf1.VocabInfo("a", 1, 0, "b")}),
            "in var_name_to_vocab_info that were not used: 'zz'",
        ),
        (
            (".*", {"emb/w": tf1.VocabInfo("a", 1, 0, "b", axis=2)}),
            "The only supported values for the axis argument are 0 and 1",
        ),
        ((".*", {"emb/w": tf1.VocabInfo("", 1, 0, "b")}), "Must provide all of new_vocab"),
    ],
)
def test_tensorflows_errors_are_here(files, arguments, text):
    declared = js.declare(model)(5, 5)
    with pytest.raises(ValueError, match=re.escape(text)):
        tf1.warm_start(declared, files[0], *arguments, key=jax.random.key(0))


def test_sizes_that_differ_are_errors_that_show_them(files):
    path, old, new = files
    start = {"emb/w": jnp.zeros((6, 3))}
    with pytest.raises(ValueError, match="has 5 entries, but its size is given as 9"):
        tf1.warm_start(start, path, ".*", {"emb/w": tf1.VocabInfo(new, 9, 0, old)})
    with pytest.raises(js.TreeMismatchError, match="give together, which is 5"):
        tf1.warm_start(start, path, ".*", {"emb/w": tf1.VocabInfo(new, 4, 1, old)})
    info = tf1.VocabInfo(new, 4, 2, old)
    with pytest.raises(js.TreeMismatchError, match=r"and \(3,\) in the checkpoint"):
        tf1.warm_start(start, path, ".*", {"emb/w": info}, {"emb/w": "emb/b"})
    with pytest.raises(js.CheckpointValueError, match="needs key="):
        tf1.warm_start(js.declare(model)(5, 5), path)


def test_assign_from_checkpoint_fn_gives_a_function_of_trees(files):
    path = files[0]
    tree = {"emb/b": jnp.zeros(3), "w": jnp.zeros((5, 3)), "mine": jnp.ones(1)}
    init_fn = tf1.assign_from_checkpoint_fn(path, {"emb/b": "emb/b", "head/w": "w"})
    with pytest.raises(js.TreeMismatchError, match="'w'"):
        init_fn(tree)
    assigned = tf1.assign_from_checkpoint_fn(
        path, {"emb/b": "emb/b", "head/w": "w"}, reshape_variables=True
    )(tree)
    np.testing.assert_array_equal(assigned["emb/b"], OLD["emb/b"])
    np.testing.assert_array_equal(assigned["w"], OLD["head/w"].reshape(5, 3))
    np.testing.assert_array_equal(assigned["mine"], [1])


def test_assign_from_checkpoint_fn_ignores_what_is_missing_if_asked(files):
    path = files[0]
    tree = {"emb/b": jnp.zeros(3), "mine": jnp.ones(1)}
    with pytest.warns(js.CheckpointWarning, match="lacks 'mine', which keep their values"):
        init_fn = tf1.assign_from_checkpoint_fn(path, list(tree), ignore_missing_vars=True)
    np.testing.assert_array_equal(init_fn(tree)["emb/b"], OLD["emb/b"])
    np.testing.assert_array_equal(init_fn(tree)["mine"], [1])
    with pytest.warns(js.CheckpointWarning):
        assert tf1.assign_from_checkpoint_fn(path, ["mine"], ignore_missing_vars=True) is None
    with pytest.raises(js.TreeMismatchError, match="'mine'"):
        tf1.assign_from_checkpoint_fn(path, ["mine"])(tree)
    with pytest.raises(ValueError, match="var_list cannot be empty"):
        tf1.assign_from_checkpoint_fn(path, [])


@pytest.mark.parametrize(
    ("which", "text"),
    [
        ("embd.*", "'embd.*' matches none of the 4 variables (no close name among 4: 'emb/w'"),
        (["emb", "zz"], "'zz' matches none of the 5 variables (no close name among 5"),
        ("emb(", "'emb(' is not a regular expression: missing ), unterminated subpattern"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(files, which, text):
    declared = js.declare(model)(5, 5)
    with pytest.raises(js.SelectorError, match=re.escape(text)):
        tf1.warm_start(declared, files[0], which, key=jax.random.key(0))


def test_what_a_checkpoint_lacks_is_named_with_what_warm_start_has(files):
    declared = js.declare(model)(5, 5)
    text = "lacks 'new_name', from which 'new_name' was to be read (close names: 'old_name')"
    with pytest.raises(js.TreeMismatchError, match=re.escape(text)) as error:
        tf1.warm_start(declared, files[0], key=jax.random.key(0))
    assert "leave it out of vars_to_warm_start" in str(error.value)
    assert "missing=" not in str(error.value)
    with pytest.raises(js.TreeMismatchError, match="ignore_missing_vars=True") as error:
        tf1.assign_from_checkpoint_fn(files[0], ["new_name"])({"new_name": jnp.ones(2)})
    assert "missing=" not in str(error.value)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ((-3, 0, -1), "new_vocab_size of VocabInfo must be at least 1, got -3"),
        ((4, -1, -1), "num_oov_buckets of VocabInfo must be at least 0, got -1"),
        ((4, 1, -2), "old_vocab_size of VocabInfo must be at least -1, got -2"),
    ],
)
def test_sizes_of_a_vocabulary_are_numbers_of_entries(files, sizes, text):
    path, old, new = files
    size, buckets, old_size = sizes
    info = tf1.VocabInfo(new, size, buckets, old, old_size)
    with pytest.raises(ValueError, match=f"Variable 'emb/w': {text}"):
        tf1.warm_start({"emb/w": jnp.zeros((5, 3))}, path, ".*", {"emb/w": info})


def test_a_vocabulary_that_is_not_there_is_named_with_its_variable(files):
    path, old, _ = files
    info = tf1.VocabInfo("nowhere.txt", 4, 1, old)
    with pytest.raises(js.CheckpointNotFoundError, match=r"'emb/w': .* file nowhere\.txt"):
        tf1.warm_start({"emb/w": jnp.zeros((5, 3))}, path, ".*", {"emb/w": info})


def test_a_var_list_is_of_names(files):
    tree = js.VarTree({"emb/b": jnp.zeros(3)})
    with pytest.raises(ValueError, match=re.escape("the string 'emb'. Write ['emb'].")):
        tf1.assign_from_checkpoint_fn(files[0], "emb")
    for given in (tree, js.declare(model)(5, 5)):
        with pytest.raises(ValueError, match=re.escape("Write list(declared) for")) as error:
            tf1.assign_from_checkpoint_fn(files[0], given)
        assert f"got a {type(given).__name__} from names to" in str(error.value)
        assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    "saved", ["dense/kernel", "model/first", "model/first/.ATTRIBUTES/VARIABLE_VALUE"]
)
def test_a_variable_of_an_object_based_checkpoint_is_found_by_each_of_its_names(tmp_path, saved):
    tf2 = tf.compat.v2
    model = tf2.Module()
    model.first = tf2.Variable(np.float32([1, 2]), name="dense/kernel")
    path = tf2.train.Checkpoint(model=model).write(str(tmp_path / "ckpt"))
    init_fn = tf1.assign_from_checkpoint_fn(path, {saved: "w"}, ignore_missing_vars=True)
    target = {"w": jnp.zeros(2)}
    np.testing.assert_array_equal(init_fn(target)["w"], [1, 2])
    warm = tf1.warm_start(target, path, var_name_to_prev_var_name={"w": saved})
    np.testing.assert_array_equal(warm["w"], [1, 2])
