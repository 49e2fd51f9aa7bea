"""The guide for who comes from TensorFlow 1: its TF1 code runs, and what its tables name exists.

``py`` blocks are TensorFlow's, and run one after the other; ``python`` blocks are run by
`test_docs`.
"""

import importlib
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tensorflow = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
tf = tensorflow.compat.v1

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "from_tf1.md"
TEXT = PAGE.read_text()
BLOCKS = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What an inline name in the tables begins with, and what has it.
OWNERS = {
    "tf": tf,
    "js": js,
    "init": js.initializers,
    "layers": js.layers,
    "regularizers": js.regularizers,
    "scope": js.Scope,
    "declared": js.Declaration,
    "ema": js.ExponentialMovingAverage,
    "saver": js.Saver,
    "tf1": js.tf1,
    "contrib": js.tf1.contrib,
    "tf_checkpoint": importlib.import_module("jscope.tf_checkpoint"),
}


def test_the_page_shows_both_files_and_nothing_else():
    section = re.search(r"<!-- the two programs -->\n(.*?)<!-- end", TEXT, re.DOTALL)[1]
    shown = {"py": [], "python": []}
    for language, code in BLOCKS.findall(section):
        shown[language].append(code.strip())
    for language, name in (("py", "before"), ("python", "after")):
        file = (ROOT / "examples" / "porting" / f"{name}.py").read_text()
        assert re.sub(r"\n\n+", "\n\n", "\n\n".join(shown[language])) == re.sub(
            r"\n\n+", "\n\n", file.strip()
        )


def test_code_of_the_page_runs_and_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spaces = {"py": {"__name__": "before"}, "python": {"__name__": "after"}}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for language, code in BLOCKS.findall(TEXT):
            if language in spaces:
                exec(compile(code, str(PAGE), "exec"), spaces[language])
        before, after = spaces["py"], spaces["python"]
        tree = after["load"](before["path"])
        ours = after["twins"](js.Scope(tree), jnp.ones((4, 3)), jnp.ones((4, 3)))
    np.testing.assert_allclose(ours, before["expected"], rtol=1e-5)


def test_what_the_tables_name_exists():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "`" in line]
    found = re.findall(r"(?<![.\w])(" + "|".join(OWNERS) + r")((?:\.\w+)+)", "\n".join(rows))
    assert len(found) > 100
    for owner, path in found:
        if path.startswith(
            (".contrib", ".layers", ".nn.rnn_cell", ".md")
        ):  # gone from TensorFlow; a page
            continue
        value = OWNERS[owner]
        for attribute in path.split(".")[1:]:
            assert hasattr(value, attribute), f"{owner}{path}"
            value = getattr(value, attribute)
