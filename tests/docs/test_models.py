"""The models of the benchmark `gradients` are one model in every framework."""

import functools
import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
NAMES = ("T5", "S5", "dropouts")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("flax") is None, reason="no flax: the models are compared with linen's"
)


@pytest.fixture(scope="module")
def gradients():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        # As in the benchmarks, which run under JAX's defaults.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield importlib.import_module("gradients")
    for name in [n for n, m in sys.modules.items() if _is_of(m, BENCHMARKS)]:
        del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_frameworks_compute_one_loss_gradient_and_state(gradients, name):
    model = gradients.MODELS[name]
    config = model.config(small=True, dropout=False)
    found = {}
    for framework, of in gradients.arguments(model, config).items():
        compute = jax.jit(gradients.gradient(framework, model, config))
        (loss, state), gradient = compute(*of)
        found[framework] = loss, _by_size(state), _by_size(gradient)
    ours = found.pop("jscope")
    assert sum(map(len, ours[2])) > 10
    for other in found.values():
        for mine, theirs in zip(jax.tree.leaves(ours), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_linen_has_the_variables_of_jscope(gradients, name):
    model = gradients.MODELS[name]
    config = model.config(small=True, dropout=True)
    params, state, key, batch = gradients.arguments(model, config)["linen"]
    variables = functools.partial(model.package.linen.variables, config, batch=batch)
    theirs = jax.eval_shape(variables, key)
    ours = {"params": params} | ({"batch_stats": state} if state else {})
    assert jax.tree.map(_type, ours) == jax.tree.map(_type, theirs)


DRAWS = {"T5": (4 + 2) + (6 + 2), "S5": 2, "dropouts": 4}  # of masks, layers counted once


@pytest.mark.parametrize("name", NAMES)
def test_frameworks_draw_the_same_number_of_masks(gradients, name):
    model = gradients.MODELS[name]
    for dropout in (True, False):
        config = model.config(small=True, dropout=dropout)
        for framework, of in gradients.arguments(model, config).items():
            traced = jax.make_jaxpr(model.frameworks()[framework].objective(config))(*of)
            assert _draws(traced.jaxpr) == DRAWS[name] * dropout


@pytest.mark.parametrize("dropout", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_jscope_have_no_more_instructions_than_the_others(gradients, name, dropout):
    model = gradients.MODELS[name]
    config = model.config(small=True, dropout=dropout)
    counts = {}
    for framework, of in gradients.arguments(model, config).items():
        compute = jax.jit(gradients.gradient(framework, model, config))
        program = compute.lower(*of).compiler_ir("hlo").as_hlo_text()
        counts[framework] = gradients.reachable(program)
    assert counts["jscope"] <= min(counts.values())


def test_relative_buckets_are_those_of_the_paper(gradients):
    buckets = importlib.import_module("t5.mathematics").relative_buckets
    ours = buckets(40, 8, bidirectional=True, most=16)
    assert (np.diag(ours, -1) == 1).all()
    assert (np.diag(ours, 1) == 4 + 1).all()
    # Distances 0 and 1 have a bucket each; from 2 on, floor(2 + 2 log(d / 2) / log(16 / 2)).
    assert [int(ours[d, 0]) for d in (0, 1, 2, 5, 6, 16, 39)] == [0, 1, 2, 2, 3, 3, 3]
    causal = buckets(40, 8, bidirectional=False, most=16)
    assert (np.triu(causal) == 0).all()
    assert [int(causal[d, 0]) for d in (1, 3, 4, 8, 15, 39)] == [1, 3, 4, 6, 7, 7]


def test_state_space_is_the_recurrence(gradients):
    mathematics = importlib.import_module("s5.mathematics")
    random = np.random.default_rng(0)
    u, d = random.standard_normal((5, 2)).astype("f4"), np.array([0.5, -1], "f4")
    b = (random.standard_normal((3, 2)) + 1j * random.standard_normal((3, 2))).astype("c8")
    c, log_step = b.T * 2, mathematics.log_steps(3) + 2
    eigenvalues = mathematics.eigenvalues(3)
    found = mathematics.state_space(
        jnp.asarray(u), *map(jnp.asarray, (eigenvalues, log_step, b, c, d))
    )
    held = np.exp(eigenvalues * np.exp(log_step))
    x, expected = np.zeros(3, "c16"), []
    for step in u:
        x = held * x + ((held - 1) / eigenvalues)[:, None] * b @ step
        expected.append(2 * (c @ x).real + d * step)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_instructions_are_counted_from_the_entry(gradients):
    reachable = importlib.import_module("_lines").reachable
    text = """HloModule m

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%unused (c: f32[]) -> f32[] {
  ROOT %c = f32[] parameter(0)
}

ENTRY %main (x: f32[2]) -> f32[] {
  %x = f32[2] parameter(0)
  %zero = f32[] constant(0)
  %first = f32[] reduce(%x, %zero), dimensions={0}, to_apply=%sum
  ROOT %second = f32[] reduce(%x, %first), dimensions={0}, to_apply=%sum
}
"""
    assert reachable(text) == 4 + 3
    assert reachable(text.replace("%", "")) == 4 + 3


def _by_size(tree):
    """The leaves in an order that doesn't depend on their names."""
    leaves = jax.tree.leaves(tree)
    return sorted(map(np.asarray, leaves), key=lambda x: (x.shape, float(abs(x).sum())))


def _draws(jaxpr):
    """How often random bits are drawn, in loops once."""
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name == "random_bits"
        for value in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            count += _draws(inner) if hasattr(inner, "eqns") else 0
    return count


def _type(leaf):
    return leaf.shape, leaf.dtype


def _is_of(module, folder):
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)
