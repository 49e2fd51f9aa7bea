"""`examples/llama.py` against `transformers`: its weights give its logits, out and back again.

Needs the group ``hf-test``, which `tests/run.py` installs into an environment of its own.
"""

import importlib.util
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

import jscope as js

os.environ["HF_HUB_OFFLINE"] = "1"
torch = pytest.importorskip("torch", reason="the group hf-test is not installed")
transformers = pytest.importorskip("transformers", reason="the group hf-test is not installed")

EXAMPLE = Path(__file__).parents[2] / "examples" / "llama.py"
spec = importlib.util.spec_from_file_location("llama", EXAMPLE)
llama = importlib.util.module_from_spec(spec)
spec.loader.exec_module(llama)

TOKENS = np.random.default_rng(0).integers(0, 130, (2, 21), dtype=np.int32)


def peer(is_tied, dtype=torch.float32, **more):
    """A tiny model of random weights, none of which can be left out or taken for another."""
    config = transformers.LlamaConfig(
        vocab_size=130,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        tie_word_embeddings=is_tied,
        initializer_range=0.15,
        rope_parameters={"rope_type": "default", "rope_theta": 7000.0},
        **more,
    )
    torch.manual_seed(3)
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model.to(dtype).eval()


def logits_of(model):
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS).long()).logits.float().numpy()


@pytest.fixture(autouse=True)
def jax_defaults():
    """An example runs under them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def logits_here(model, variables):
    return np.asarray(jax.jit(lambda v: model(js.Scope(v), TOKENS))(variables))


@pytest.mark.parametrize("more", [{}, {"head_dim": 20}], ids=["", "heads of another size"])
@pytest.mark.parametrize("is_tied", [False, True], ids=["untied", "tied"])
def test_sharded_weights_give_the_logits_of_transformers_and_return(tmp_path, is_tied, more):
    theirs = peer(is_tied, **more)
    theirs.save_pretrained(tmp_path / "saved", max_shard_size="60KB")
    shards = sorted((tmp_path / "saved").glob("model-*.safetensors"))
    assert len(shards) > 3
    assert (tmp_path / "saved" / "model.safetensors.index.json").exists()

    model, variables = llama.restore(tmp_path / "saved")
    expected = logits_of(theirs)
    assert 0.5 < expected.std() < 5  # so that 1e-5 is little
    np.testing.assert_allclose(logits_here(model, variables), expected, atol=1e-5, rtol=0)

    llama.export(model, variables, tmp_path / "exported", max_shard_size="100KB")
    assert len(list((tmp_path / "exported").glob("model-*.safetensors"))) > 1
    config = (tmp_path / "saved" / "config.json").read_text()
    (tmp_path / "exported" / "config.json").write_text(config)
    again, problems = transformers.LlamaForCausalLM.from_pretrained(
        tmp_path / "exported", output_loading_info=True
    )
    assert not any(problems.values()), problems
    weights = again.state_dict()
    assert weights.keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weights[name], weight), name
    np.testing.assert_array_equal(logits_of(again.eval()), expected)


def test_weights_in_bfloat16_are_restored_exactly(tmp_path):
    peer(False, torch.bfloat16).save_pretrained(tmp_path, max_shard_size="60KB")
    model, variables = llama.restore(tmp_path)
    assert {str(x.dtype) for x in variables.values()} == {"float32"}
    # Not the same object cast: its rotations were rounded too.
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    expected = logits_of(theirs.eval())
    np.testing.assert_allclose(logits_here(model, variables), expected, atol=1e-5, rtol=0)


def test_a_missing_shard_is_an_error_that_names_it(tmp_path):
    peer(False).save_pretrained(tmp_path, max_shard_size="60KB")
    missing = sorted(tmp_path.glob("model-*.safetensors"))[2]
    missing.unlink()
    with pytest.raises(js.CheckpointError, match=f"lacks 1 of the .* files .*{missing.name}"):
        llama.restore(tmp_path)


def test_a_kind_of_llama_that_is_not_written_here_is_refused(tmp_path):
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 7000.0}
    config = transformers.LlamaConfig(rope_parameters=rope).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="rotations of type 'linear'"):
        llama.restore(tmp_path)
