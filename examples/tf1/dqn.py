"""Deep Q-learning with a target network, whose functions share variables.

The method is that of *Human-level control through deep reinforcement learning* (Mnih et al., 2015),
with the choice of actions of *Deep Reinforcement Learning with Double Q-learning* (van Hasselt et
al., 2015). Names and the order of creation are those of OpenAI's Baselines: the network
``deepq/q_func``, its earlier self ``deepq/target_q_func``, and ``deepq/eps``, how often an action
is random.

In TF1 three functions share these variables through ``reuse=True`` and a session. Here each is a
function of the variables, and one declaration has what any of them creates:

* `act` chooses actions, and assigns ``deepq/eps``;
* `td_errors` compares the network with its target, and is what training differentiates;
* `update_target` is no operation of a graph: it renames one network's values to the other's names.

The game is Catch: a ball falls through a grid, and a paddle should be below it.
"""

import argparse
import tempfile
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

import jscope as js
from jscope import initializers as init
from jscope import tf1, tf_checkpoint
from jscope.tf1 import contrib

Batch = Mapping[str, Array]

ACTIONS = 3  # to the left, stay, to the right
HIDDEN = (32,)
GAMMA = 0.9
GRAD_NORM = 10.0
ONLINE = "deepq/q_func/**"  # what is trained


# 1. The network, and the functions that share it.


def q_func(scope: js.Scope, observations: Array) -> Float[Array, "batch actions"]:
    """The value of each action."""
    x = observations
    for units in HIDDEN:
        x = contrib.fully_connected(scope, x, units)
    return contrib.fully_connected(scope, x, ACTIONS, activation_fn=None)


def act(scope: js.Scope, observations: Array, eps: Array | float) -> Int[Array, " batch"]:
    """The best action for each observation, or a random one with probability ``deepq/eps``.

    An ``eps`` of 0 or more is assigned first. As in Baselines, a negative one changes nothing.
    """
    with scope.variable_scope("deepq") as s:
        s.get_variable("eps", (), initializer=init.zeros, trainable=False)
        rate = s.assign("eps", jnp.where(jnp.asarray(eps) >= 0, eps, s["eps"]))
        best = q_func(s / "q_func", observations).argmax(axis=-1)
        which, draw = jax.random.split(s.rng("actions"))
        chosen = jax.random.randint(draw, best.shape, 0, ACTIONS)
        return jnp.where(jax.random.uniform(which, best.shape) < rate, chosen, best)


def td_errors(scope: js.Scope, batch: Batch) -> Float[Array, " batch"]:
    """The network's values of the actions taken, less what the target says of the outcome."""
    with scope.variable_scope("deepq") as s:
        # Each `shared` enters the scope anew, so that its unnamed layers count from zero again.
        values = q_func(s.shared("q_func"), batch["obs_t"])
        taken = jnp.take_along_axis(values, batch["action"][:, None], 1)
        later = q_func(s / "target_q_func", batch["obs_tp1"])
        best = q_func(s.shared("q_func"), batch["obs_tp1"]).argmax(axis=-1)
        value = jnp.take_along_axis(later, best[:, None], 1)[:, 0]
        outcome = batch["reward"] + GAMMA * (1 - batch["done"]) * value
        return taken[:, 0] - jax.lax.stop_gradient(outcome)


def declare(observations: int) -> js.Declaration:
    """The variables of both functions."""
    obs = jax.ShapeDtypeStruct((1, observations), jnp.float32)
    one = jax.ShapeDtypeStruct((1,), jnp.float32)
    action = jax.ShapeDtypeStruct((1,), jnp.int32)
    batch = {"obs_t": obs, "action": action, "reward": one, "obs_tp1": obs, "done": one}
    return js.declare(act)(obs, 0.0) | js.declare(td_errors)(batch)


def update_target(tree: js.VarTree) -> js.VarTree:
    renamed = js.rename(js.select(tree, ONLINE), {"deepq/q_func": "deepq/target_q_func"})
    return tree | renamed


# 2. Training.


def loss_of(online: js.VarTree, rest: js.VarTree, batch: Batch) -> Float[Array, ""]:
    """Huber's loss of the errors, as a function of the network that is trained."""
    errors = td_errors(js.Scope(online, rest), batch)
    return optax.losses.huber_loss(errors).mean()


def clip_by_norm(x: Array) -> Array:
    """As ``tf.clip_by_norm``: each variable's gradient on its own."""
    return x * GRAD_NORM / jnp.maximum(jnp.sqrt(jnp.sum(x * x)), GRAD_NORM)


# Baselines applies the optimizer in the scope `deepq`, which it opens for the second time there:
# slots are called `deepq/<variable>/Adam`, and the powers of Adam's betas `deepq_1/beta1_power`.
OPTIMIZER = tf1.train.AdamOptimizer(1e-3, scope="deepq", name_scope="deepq_1")


@jax.jit
def train_step(training: tf1.train.TrainingState, batch: Batch) -> tf1.train.TrainingState:
    """One step of the network; of the rest of the variables, nothing changes."""
    online, rest, opt_state, global_step = training
    grads = jax.tree.map(clip_by_norm, jax.grad(loss_of)(online, rest, batch))
    updates, opt_state = OPTIMIZER.update(grads, opt_state, online)
    online = optax.apply_updates(online, updates)
    return tf1.train.TrainingState(online, rest, opt_state, global_step + 1)


# 3. The game.


class Catch:
    """Some games at once. The ball falls by one row with each action; the last row decides."""

    rows, columns = 6, 5

    def __init__(self, games: int, seed: int):
        self.rng, self.games = np.random.default_rng(seed), games
        self.begin()

    def begin(self) -> None:
        self.row = 0
        self.ball, self.paddle = self.rng.integers(0, self.columns, (2, self.games))

    def observe(self) -> np.ndarray:
        """The grids, flat: 1 where the ball is, and where the paddle is."""
        grid = np.zeros((self.games, self.rows, self.columns), np.float32)
        grid[np.arange(self.games), self.row, self.ball] = 1
        grid[np.arange(self.games), -1, self.paddle] = 1
        return grid.reshape(self.games, -1)

    def step(self, action: np.ndarray) -> dict[str, np.ndarray]:
        """Move; a ball that is caught is worth 1, and one that is missed -1."""
        before = self.observe()
        self.paddle = np.clip(self.paddle + action - 1, 0, self.columns - 1)
        self.row += 1
        after, done = self.observe(), self.row == self.rows - 1
        reward = np.where(self.ball == self.paddle, 1.0, -1.0) * done
        if done:
            self.begin()
        return {
            "obs_t": before,
            "action": action.astype(np.int32),
            "reward": reward.astype(np.float32),
            "obs_tp1": after,
            "done": np.full(self.games, done, np.float32),
        }


# 4. Playing and learning.


def play(steps: int, seed: int, folder: str) -> None:
    key, game, rng = jax.random.key(seed), Catch(16, seed), np.random.default_rng(seed)
    declared = declare(Catch.rows * Catch.columns)
    print(declared)
    online, rest = js.partition(update_target(declared.init(key)), ONLINE)
    zero = jnp.zeros((), jnp.int32)
    training = tf1.train.TrainingState(online, rest, OPTIMIZER.init(online), zero)
    act_now = jax.jit(js.with_updates(act))
    memory: list[dict[str, np.ndarray]] = []
    for step in range(steps):
        eps = max(1 - 2 * step / steps, 0.05)
        variables, state = training.params | training.state, training.state
        keys = jax.random.fold_in(key, step)
        action, updates = act_now(variables, game.observe(), eps, rngs=keys)
        memory = [*memory[-500:], game.step(np.asarray(action))]
        picked = [memory[i] for i in rng.integers(0, len(memory), 4)]
        batch = {name: np.concatenate([each[name] for each in picked]) for name in picked[0]}
        training = train_step(training._replace(state=state | updates), batch)
        if (step + 1) % 50 == 0:
            variables = update_target(training.params | training.state)
            training = training._replace(state=js.drop(variables, ONLINE))
        if (step + 1) % (steps // 5) == 0:
            ends = [each["reward"].mean() for each in memory[-100:] if each["done"][0]]
            print(f"step {step + 1:5d}  eps {eps:.2f}  caught {np.mean(ends) / 2 + 0.5:.0%}")
    path = tf1.train.save(training, f"{folder}/model.ckpt", OPTIMIZER)
    print("Saved for TensorFlow:", *(name for name, _ in tf_checkpoint.list_variables(path)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000, help="of the games (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        play(arguments.steps, arguments.seed, folder)


if __name__ == "__main__":
    main()
