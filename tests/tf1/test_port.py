"""A stranger's function of thirty lines, ported: only the scope and the imports change."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import jscope as js

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = np.load(ROOT / "tests" / "golden" / "tf1_layers.npz")
PAGE = (ROOT / "docs" / "from_tf1.md").read_text()
BEFORE, AFTER = re.search(r"```tf1\n(.*?)```\n\n```python\n(.*?)```", PAGE, re.DOTALL).groups()


def body(code):
    """The lines behind the imports."""
    return code[code.index("def ") :].splitlines()


def without_scope(line):
    line = line.replace("vs.variable_scope(", "tf.variable_scope(")
    return re.sub(r"\(vs, ", "(", line).replace(" as vs:", ":")


def test_only_the_scope_argument_changes():
    assert [without_scope(line) for line in body(AFTER)] == body(BEFORE)
    assert len(BEFORE.splitlines()) >= 29


def test_names_order_and_logits_are_tensorflows():
    space = {}
    exec(AFTER, space)
    model = space["network"]
    names = [str(name) for name in GOLDEN["ported/names"]]
    images = GOLDEN["ported/input_0"]
    declared = js.declare(model)(jnp.asarray(images), 5, is_training=False)
    assert list(declared) == names
    values = [GOLDEN[f"ported/value_{i}"] for i in range(len(names))]
    logits = model(js.Scope(dict(zip(names, values, strict=True))), images, 5, is_training=False)
    expected = GOLDEN["ported/output"]
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_the_regularizer_is_that_of_weights():
    space = {}
    exec(AFTER, space)
    declared = js.declare(space["network"])(jnp.ones((2, 8, 8, 3)), 5, is_training=False)
    regularized = [name for name, spec in declared.items() if spec.regularizer is not None]
    assert regularized == [name for name in declared if name.endswith("/weights")]
