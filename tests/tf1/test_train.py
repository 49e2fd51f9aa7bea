"""Training states in TF1's checkpoints: several optimizers, stacks, steps, and what errors say."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jscope as js
from jscope import tf_checkpoint
from jscope.tf1 import train


def model(scope):
    for name in ("actor", "critic"):
        (scope / name).get_variable("w", (3,))
    scope.get_variable("mean", (2,), trainable=False)


DECLARED = js.declare(model)()
Adam = train.AdamOptimizer


def names_of(path):
    return [name for name, _ in tf_checkpoint.list_variables(path)]


def counted(names, **dtypes):
    """A value of its own for each name."""
    shapes = {"mean": (2,)}
    return {
        name: np.full(
            () if "_power" in name or name == "global_step" else shapes.get(name, (3,)),
            number,
            dtypes.get(name, np.int64 if name.endswith("_step") else np.float32),
        )
        for number, name in enumerate(names, 1)
    }


ALL = ["actor/w", "critic/w", "mean", "global_step"]
TWO = [
    *ALL,
    *("beta1_power", "beta2_power", "critic/w/Adam", "critic/w/Adam_1"),
    *("beta1_power_1", "beta2_power_1", "actor/w/Adam", "actor/w/Adam_1"),
]


@pytest.fixture
def write(tmp_path):
    return lambda values: tf_checkpoint.write(tmp_path / "model.ckpt", values)


def test_several_optimizers_are_restored_and_saved_in_the_order_of_the_mapping(write, tmp_path):
    values = counted(TWO)
    optimizer = {"second": Adam(), "first": Adam()}
    var_list = {"second": "critic/**", "first": "actor/**"}
    training = train.restore(DECLARED, write(values), optimizer, var_list=var_list)
    assert list(training.params) == ["actor/w", "critic/w"]
    assert list(training.state) == ["mean"]
    assert list(training.opt_state["second"].slots["m"]) == ["critic/w"]
    assert float(training.opt_state["first"].powers["beta1_power"]) == 9.0
    # Also after jax.jit, which sorts the keys of dicts.
    path = train.save(jax.jit(lambda t: t)(training), tmp_path / "again", optimizer)
    stored = tf_checkpoint.open(path)
    assert sorted(stored) == sorted(values)
    for name, value in values.items():
        np.testing.assert_array_equal(stored[name].read(), value, err_msg=name)
        assert stored[name].dtype == value.dtype


def test_a_part_is_trained_and_the_rest_is_state(write):
    values = counted([*ALL, "actor/w/Momentum"])
    optimizer = train.MomentumOptimizer(0.1, 0.9)
    training = train.restore(DECLARED, write(values), optimizer, var_list="actor/**")
    assert list(training.params) == ["actor/w"]
    assert list(training.state) == ["critic/w", "mean"]
    assert jax.tree.structure(training.opt_state) == jax.tree.structure(
        optimizer.init(training.params)
    )


def test_a_program_without_a_step_stays_without_one(write, tmp_path):
    values = counted(ALL[:3])
    optimizer = train.GradientDescentOptimizer(0.1)
    training = train.restore(DECLARED, write(values), optimizer)
    assert training.global_step is None
    assert names_of(train.save(training, tmp_path / "again", optimizer)) == sorted(values)


def test_a_step_that_the_model_declares_is_state_and_must_be_updated_with_the_other(
    write, tmp_path
):
    def with_step(scope):
        model(scope)
        scope.get_variable("global_step", (), jnp.int32, trainable=False)

    optimizer = train.GradientDescentOptimizer(0.1)
    path = write(counted(ALL, global_step=np.int32))
    training = train.restore(js.declare(with_step)(), path, optimizer)
    assert int(training.state["global_step"]) == int(training.global_step) == 4
    behind = training._replace(global_step=training.global_step + 1)
    with pytest.raises(js.CheckpointValueError, match="global_step is 5, and 'global_step' in"):
        train.save(behind, tmp_path / "again", optimizer)
    path = train.save(training, tmp_path / "again", optimizer, global_step_dtype=np.int32)
    assert tf_checkpoint.open(path)["global_step"].dtype == np.int32


def test_slots_of_stacks_are_those_of_their_slices(tmp_path):
    def layers(scope):
        stack = scope.stacked("layers", 2)
        return jax.vmap(lambda layer: layer.get_variable("w", (3,)))(stack)

    declared = js.declare(layers)()
    names = [f"layers/{i}/w{slot}" for i in (0, 1) for slot in ("", "/Momentum")]
    path = tf_checkpoint.write(tmp_path / "m", counted(names))
    optimizer = train.MomentumOptimizer(0.1, 0.9)
    training = train.restore(declared, path, optimizer)
    momentum = training.opt_state.slots["momentum"]["layers/w"]
    np.testing.assert_array_equal(momentum, [[2.0] * 3, [4.0] * 3])
    path = train.save(training, tmp_path / "again", optimizer, stacks=["layers"])
    assert names_of(path) == sorted(names)


def test_the_order_of_variables_does_not_matter():
    optimizer = Adam(0.1)
    values = {"b": jnp.ones(2), "a": jnp.full(3, 2.0)}

    def stepped(params):
        changes, state = optimizer.update(params, optimizer.init(params), params)
        return dict(changes), state.powers

    forward, backward = stepped(values), stepped(dict(reversed(values.items())))
    for name in values:
        np.testing.assert_array_equal(forward[0][name], backward[0][name])


def test_an_optimizer_works_in_optax_s_chain_and_mask():
    chain = optax.chain(optax.clip_by_global_norm(1.0), train.GradientDescentOptimizer(0.5))
    params = js.VarTree({"a": jnp.zeros(2), "b": jnp.zeros(1)})
    gradients = js.VarTree({"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])})
    updates, _ = jax.jit(chain.update)(gradients, chain.init(params), params)
    np.testing.assert_allclose(updates["a"], [-0.3, 0.0], rtol=1e-6)
    masked = optax.masked(Adam(0.1), js.mask(params, "a"))
    updates, _ = jax.jit(masked.update)(gradients, masked.init(params), params)
    np.testing.assert_array_equal(updates["b"], [4.0])  # not touched
    assert float(updates["a"][0]) < 0


# Errors.


def test_a_scope_of_the_program_is_found_in_the_names(write):
    names = [*ALL, *(f"train/{v}/Momentum" for v in ("actor/w", "critic/w"))]
    path = write(counted(names))
    with pytest.raises(js.TreeMismatchError) as error:
        train.restore(DECLARED, path, train.MomentumOptimizer(0.1, 0.9))
    text = str(error.value)
    assert "4 differences" in text
    assert "missing: 'actor/w/Momentum'" in text
    assert "unexpected: 'train/critic/w/Momentum'" in text
    assert "write scope='train' in the optimizer's arguments" in text
    optimizer = train.MomentumOptimizer(0.1, 0.9, scope="train")
    training = train.restore(DECLARED, path, optimizer)
    assert float(training.opt_state.slots["momentum"]["critic/w"][0]) == 6.0


def test_the_optimizer_of_the_program_is_told_from_its_slots(write):
    names = [*ALL, "actor/w/Momentum", "critic/w/Momentum"]
    with pytest.raises(js.TreeMismatchError, match="Of 'actor/w' there are 'actor/w/Momentum'"):
        train.restore(DECLARED, write(counted(names)), train.AdagradOptimizer(0.1))


def test_a_var_list_with_moving_statistics_is_an_error_that_shows_the_trainable_ones(write):
    names = [*ALL, "train/actor/w/Momentum", "train/critic/w/Momentum"]
    path, optimizer = write(counted(names)), train.MomentumOptimizer(0.1, 0.9, scope="train")
    with pytest.raises(js.TreeMismatchError) as error:
        train.restore(DECLARED, path, optimizer, var_list="**")
    assert str(error.value).endswith(
        "1 difference:\n  missing: 'train/mean/Momentum' is not in the checkpoint\n"
        "var_list= selects 'mean', which is not trainable: TF's optimizers have no slots of it. "
        "Write var_list=declared.trainable_variables(), with the scope that is trained as its "
        "argument: declared.trainable_variables(scope)."
    )
    var_list = DECLARED.trainable_variables()
    training = train.restore(DECLARED, path, optimizer, var_list=var_list)
    assert list(training.params) == ["actor/w", "critic/w"]
    assert list(training.state) == ["mean"]


def test_what_only_the_checkpoint_has_is_listed_and_can_be_carried_along(write):
    names = [*ALL, "actor/w/ExponentialMovingAverage"]
    path, optimizer = write(counted(names)), train.GradientDescentOptimizer(0.1)
    with pytest.raises(js.TreeMismatchError, match=r"unexpected: 'actor/w/Exp(.|\n)*others="):
        train.restore(DECLARED, path, optimizer)
    training = train.restore(DECLARED, path, optimizer, others="**/ExponentialMovingAverage")
    assert list(training.state) == ["actor/w/ExponentialMovingAverage", "mean"]


def test_slots_of_another_shape_are_all_listed():
    tree = {"w": np.ones(3), "w/Momentum": np.ones(4, np.float32)}
    with pytest.raises(js.TreeMismatchError, match="'w/Momentum'"):
        train.from_slots(train.MomentumOptimizer(0.1, 0.9), tree, {"w": jnp.ones(3)})


def test_optax_s_own_optimizer_has_no_names_of_slots():
    params = js.VarTree({"w": jnp.ones(2)})
    adam = Adam()
    chain = optax.chain(optax.clip(1.0), adam)
    with pytest.raises(js.CheckpointValueError, match=r"to_slots\(adam, opt_state\[1\]\)"):
        train.to_slots(chain, chain.init(params))
    with pytest.raises(js.CheckpointValueError, match=r"`opt_state` is tuple"):
        train.to_slots(adam, chain.init(params))
    assert len(train.to_slots(adam, chain.init(params)[1])) == 4


def test_gradients_of_other_variables_are_an_error_that_lists_them():
    optimizer, params = Adam(), js.VarTree({"a": jnp.ones(2), "b": jnp.ones(2)})
    state = optimizer.init(params)
    with pytest.raises(js.TreeMismatchError, match="missing: 'b'"):
        optimizer.update(js.VarTree({"a": jnp.ones(2)}), state, params)
    part = js.select(params, "a")
    with pytest.raises(js.TreeMismatchError, match="slots of the state are not those"):
        optimizer.update(part, state, part)
    with pytest.raises(ValueError, match=r"optimizer.update\(gradients, opt_state, params\)"):
        optimizer.update(params, state)


def test_indices_out_of_range_are_an_error_where_they_are_concrete_and_dropped_where_traced():
    with pytest.raises(js.IndexOutOfRangeError, match=r"index 3, and there are 3 rows"):
        train.IndexedSlices(jnp.ones((1, 2)), np.array([3]), (3, 2))
    with pytest.raises(js.ShapeMismatchError, match=r"values of shape \[2\]"):
        train.IndexedSlices(jnp.ones(2), np.array([0]), (3, 2))

    @jax.jit
    def dense(ids):
        return train.IndexedSlices(jnp.ones((3, 2)), ids, (3, 2)).to_dense()

    np.testing.assert_array_equal(dense(jnp.array([-1, 3, 1])), [[0, 0], [1, 1], [0, 0]])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: train.AdagradOptimizer(0.1, 0.0), "must be positive, got 0.0"),
        (lambda: train.FtrlOptimizer(0.1, 0.5), "learning_rate_power must be negative or zero"),
        (lambda: train.FtrlOptimizer(0.1, l1_regularization_strength=-1.0), "l1_regularization"),
        (lambda: Adam(name=""), "name"),
    ],
)
def test_arguments_that_tf_refuses_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_without_optax_the_error_names_the_extra():
    code = "import sys; sys.modules['optax'] = None; import jscope.tf1.train"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pip install 'jscope-jax[tf1]'" in done.stderr
