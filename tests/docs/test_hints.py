"""An error's hint is a line that runs.

First all texts of the package, as they stand in the source: the code in them is Python, its names
exist, its arguments are taken. Then programs that fail: what their errors offer is put into them,
and they run.
"""

import ast
import importlib
import re
import shlex
import sys
from fnmatch import fnmatch

import jax
import numpy as np
import pytest
from hint_situations import SITUATIONS
from hints import HOLE, PACKAGE, command_faults, faults, fragments, keyword_of, parse, texts

import jscope as js
from jscope import layers, tf1, tf_checkpoint
from jscope._cli import _app
from jscope.interop import safetensors, tensorflow

FILES = sorted(PACKAGE.rglob("*.py"))
CLI_FILES = [file for file in FILES if "_cli" in file.parts]  # what they say is for a shell
TABLES = [PACKAGE / "_names" / "tf1.py"]  # tests/tf1/test_tf1_names.py resolves each name in it
LIBRARY = [file for file in FILES if file not in (*CLI_FILES, *TABLES)]

_get = (js.Scope.get_variable,)
_open = (js.Scope.variable_scope,)
_restore = (js.Saver.restore,)
_tensorflow = (tensorflow.restore,)

# A keyword argument by itself is for the functions that raise, or the one that the text names. Here
# by file: which those are, of all that the file's errors come out of.
ENTRY_POINTS = {
    "_layer_arithmetic.py": {"padding": (layers.conv, layers.max_pool, layers.avg_pool)},
    "_scope/bound.py": {"rngs": (js.Scope,), "in_specs": (jax.shard_map,)},
    "_variables/collections.py": {"collections": _get},
    "_model/declaration.py": {
        "mesh": (js.Declaration.init, js.Declaration.abstract, js.Declaration.shardings),
        "only": (js.Declaration.init,),
    },
    "_stores/upload.py": {
        "overwrite": (tf_checkpoint.write, tensorflow.export, safetensors.export)
    },
    "_dtypes.py": dict.fromkeys(("convert", "select"), (*_restore, *_tensorflow)),
    "_model/declare.py": {"inline": (js.init,)},
    "_names/selectors.py": {
        "allow_empty": (js.select, js.drop, js.partition, js.mask, js.labels, js.rename)
    },
    "_ops/averages.py": {
        "num_updates": (js.ExponentialMovingAverage.apply,),
        "moving_average_variables": (js.ExponentialMovingAverage.variables_to_restore,),
    },
    "_ops/assign.py": {"key": (js.get_variable,)},
    "_scope/declaring.py": {"reuse": _open, "sharding": _get, "in_specs": (jax.shard_map,)},
    "_variables/request.py": {
        **dict.fromkeys(("dtype", "sharding", "trainable"), _get),
        "rules": (js.Declaration.init,),
    },
    "_variables/initializer_argument.py": dict.fromkeys(("shape", "initializer", "dtype"), _get),
    "_scope/resolve.py": {"reuse": _open},
    "_scope/scope.py": {"reuse": _open, "name": (js.Scope.rng,)},
    "_tree/selection.py": {"default": (js.labels,)},
    "_tree/stacking.py": {"length": (js.unstack,)},
    "_model/template.py": {"create_scope_now_": (js.make_template,)},
    "_random/initializer_bases.py": {"dtype": _get},
    "initializers.py": dict.fromkeys(("initializer", "dtype"), _get),
    "interop/_assignment.py": dict.fromkeys(("drop", "averages"), _tensorflow),
    "interop/_named.py": {"averages": (tensorflow.load, *_tensorflow), "rename": _restore},
    "interop/safetensors.py": dict.fromkeys(
        ("max_shard_size", "names", "metadata"), (safetensors.export,)
    ),
    "formats/_sharded_safetensors.py": {"overwrite": (safetensors.export,)},
    "interop/tensorflow.py": {
        "rename": (tensorflow.load,),
        "drop": (tensorflow.load,),
    },
    "tf1/layers/_normalization.py": {"axis": (tf1.layers.batch_normalization,)},
    "tf1/layers/_rnn_arguments.py": {
        "dtype": (tf1.layers.dynamic_rnn, tf1.layers.static_rnn),
    },
    "tf1/layers/_rnn_cells.py": {"state_is_tuple": (tf1.layers.MultiRNNCell,)},
    "tf1/train/slots.py": {"name": (tf1.train.AdamOptimizer, tf1.train.MomentumOptimizer)},
    "tf1/train/training_state.py": dict.fromkeys(("others", "var_list"), (tf1.train.restore,)),
    "tf_checkpoint/_writer.py": {
        "overwrite": (tf_checkpoint.write, tf_checkpoint.Writer, tensorflow.export)
    },
    "layers.py": {
        "groups": (layers.conv,),
        "noise_shape": (layers.dropout, tf1.layers.dropout, tf1.contrib.dropout),
        **dict.fromkeys(
            ("num_kv_heads", "num_heads", "training", "memory", "mask"),
            (layers.multi_head_attention,),
        ),
    },
    "saver/_comparison.py": dict.fromkeys(
        ("rename", "unexpected", "missing", "key", "select", "convert", "names", "stacks"),
        _restore,
    ),
    "saver/_restore.py": {"select": _restore},
    "saver/_plan.py": dict.fromkeys(
        ("missing", "unexpected", "convert", "key", "mesh", "rules"), _restore
    ),
    "saver/_retention.py": {"best": (js.Saver,), "metrics": (js.Saver.save,)},
    "saver/_saver.py": {
        "portable": (js.Saver.save, js.Saver.save_async),
        **dict.fromkeys(("sharded", "max_to_keep"), (js.Saver,)),
    },
    "saver/_leaves.py": {
        "stacks": (*_restore, tensorflow.restore, tensorflow.export),
        "var_list": (js.Saver,),
    },
    "saver/_renaming.py": dict.fromkeys(("rename", "unexpected", "names"), _restore),
    "saver/_target.py": {"select": _restore},
    "saver/_encoding.py": {"portable": (js.Saver.save, js.Saver.save_async)},
    "tf1/_initializer.py": {"initializer": _get},
    "tf1/_warm_start.py": {
        **dict.fromkeys(("key", "vars_to_warm_start"), (tf1.warm_start,)),
        "ignore_missing_vars": (tf1.assign_from_checkpoint_fn,),
    },
    "sharding.py": {
        "partitioner": (*_get, *_open),
        "rules": (js.Declaration.init, js.Declaration.plan),
        "mesh": (js.Declaration.init,),
    },
}


def in_source(file):
    """The fragments of a file's texts, with their lines."""
    return [(text, code) for text in texts(file) for code in fragments(text.text)]


@pytest.mark.parametrize("file", LIBRARY, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_code_in_the_texts_of_a_file_names_what_exists_with_arguments_that_are_taken(file):
    name = str(file.relative_to(PACKAGE))
    known = ENTRY_POINTS.get(name, {})
    found = [f"{t.file}:{t.line}: {c}: {e}" for t, c in in_source(file) for e in faults(c, known)]
    assert not found, "\n".join(found)


def test_the_code_in_all_texts_is_seen():
    codes = [code for file in FILES for _, code in in_source(file)]
    assert len(codes) > 250
    assert sum(keyword_of(code) is not None for code in codes) > 75
    assert all(parse(code) is not None for code in codes)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "Apply it with out, updates = js.with_updates(model)(tree, ...); the new state is "
            "state | updates.",
            ["out, updates = js.with_updates(model)(tree, ...)", "state | updates"],
        ),
        (
            "Write tree = tree | {'name': value}, or js.assign(tree, 'name', value).",
            ["tree = tree | {'name': value}", "js.assign(tree, 'name', value)"],
        ),
        ("js.declare(model)(...).check(tree) lists all.", ["js.declare(model)(...).check(tree)"]),
        (
            "Nothing is cast: write missing='keep' or convert=True.",
            ["missing='keep'", "convert=True"],
        ),
        ("Leave select= out, or dtype=.", ["select=", "dtype="]),
        ("Enter `with jax.set_mesh(mesh)` before.", ["with jax.set_mesh(mesh)"]),
        ("Do it with js.drop, js.select or js.rename.", ["js.drop", "js.select", "js.rename"]),
        (
            "Pass a function: f=lambda x, y: x if y else None. So",
            ["f=lambda x, y: x if y else None"],
        ),
        ("Write scope / 'a', not scope.name.", ["scope / 'a'", "scope.name"]),
        ("A loop: scope.record(f'{n}_{i}', v).", ["scope.record(f'{n}_{i}', v)"]),
        ("It doesn't write x[None], it's js.f(')').", ["x[None]", "js.f(')')"]),
        ("Variable 'a/b' of shape (3, 4) isn't there (close names: 'c'). See tree. Write.", []),
        ("The glob 'enc/**' has 3 variable(s), and/or non-negative values in [0, 1).", []),
    ],
)
def test_code_is_found_in_prose(text, found):
    seen = fragments(text)
    # "variable(s)" looks like a call; nothing else does.
    assert [code for code in seen if code != "variable(s)"] == found


@pytest.mark.parametrize(
    ("hint", "fault"),
    [
        ("Write js.selekt(tree, 'w').", "has no selekt"),
        ("Write js.init(model, inlined=True).", "unexpected keyword argument 'inlined'"),
        ("Write js.Scope(tree) / 'a', js.rename(tree).", "missing a required argument: 'names'"),
        ("Write scope.get_variabel('w', ()).", "has no get_variabel"),
        ("Write js.declare(model)(x).chekc(tree).", "has no chekc"),
        ("Write saver.restore(target, allow_empty=True).", "unexpected keyword argument"),
        ("Write declared.init(key).subtre('a').", "has no subtre"),
        ("Write scope.variable_scope('a').has_('w').", "has no has_"),
        ("Write jax.lax.skan(f, x, y).", "has no skan"),
        ("Write init.glorot_uniform.", ""),
        ("Write allow_empty=True.", "allow_empty= is no argument of Saver.restore"),
        ("Write portable=True.", "portable= is no argument of what is listed"),
        ("Write restored(tree).", "no function that a reader knows"),
        ("Enter `with js.mesh(x)`.", "has no mesh"),
    ],
)
def test_a_hint_that_does_not_hold_is_found(hint, fault):
    known = {"allow_empty": (js.select, js.Saver.restore)}
    found = [problem for code in fragments(hint) for problem in faults(code, known)]
    assert len(found) == bool(fault)
    assert fault in "".join(found)


# The command line.

COMMANDS = {name: importlib.import_module(f"jscope._cli.{name}").command for name in _app._COMMANDS}


@pytest.mark.parametrize("file", CLI_FILES, ids=lambda file: file.name)
def test_what_the_command_says_names_its_own_options_and_commands(file):
    mine = {file.stem: COMMANDS[file.stem]} if file.stem in COMMANDS else COMMANDS
    found = [
        f"{text.file}:{text.line}: {problem}"
        for text in texts(file)
        for problem in command_faults(text.text, {**COMMANDS} if "jscope" in text.text else mine)
    ]
    assert not found, "\n".join(found)


def test_an_option_that_a_command_does_not_have_is_found():
    assert command_faults("write --drop 'a'", {"ls": COMMANDS["ls"]}) == ["no command takes --drop"]
    assert command_faults("jscope lst x", COMMANDS) == ["there is no command jscope lst"]
    assert not command_faults("jscope convert a b --drop 'a' --to npz", COMMANDS)


MODULE = """
import jax, jscope as js

def declared():
    return js.declare(lambda s: s.get_variable("a/w", (7, 4)))()

def wrong(scope):
    scope.get_variable("w", (2,))
    scope.get_variable("w", (2,))
"""


@pytest.fixture
def working_directory(tmp_path, monkeypatch):
    """A directory with checkpoints of several kinds and a module; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hinted.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("hinted", None)


def make_checkpoints(directory):
    saver = js.Saver(directory / "runs")
    for step in (1, 2):
        saver.save({"a/w": np.ones(2, np.float32)}, step)
    (directory / "runs" / "2" / "jscope.json").write_text("{")
    tf_checkpoint.write(directory / "m.ckpt", {"text": "hello", "w": np.ones(2, np.float32)})


# What fails, what is printed instead of Python, and the command with it.
COMMAND_LINES = [
    ("ls runs/2", "{0}/runs/2 can't be read", "ls {0}/runs/1"),
    ("ls runs/1 w", "no close name among 1: 'a/w'", "ls runs/1 a/w"),
    ("ls runs/1 a", "Write 'a/**'", "ls runs/1 'a/**'"),
    ("verify runs", "Step 1 is the newest", "verify runs/1"),
    ("convert runs/1 runs/1", "hint: write to another DST", "convert runs/1 runs/3"),
    ("convert m.ckpt runs/3", "hint: --drop NAME", "convert m.ckpt runs/3 --drop text"),
    ("convert m.ckpt m.npz --drop v", "close name", "convert m.ckpt m.npz --drop text"),
    (
        "convert m.ckpt n.ckpt --rename v=u",
        "Nothing to rename",
        "convert m.ckpt n.ckpt --rename w=u",
    ),
    ("convert m.ckpt m.ckpt", "hint: write to another DST", "convert m.ckpt n.ckpt"),
    ("show runs/1 w", "hint: jscope ls runs/1", "ls runs/1"),
    (
        "plan hinted:declared --mesh data=2 --rule a/w=data",
        "hint: another --rule, such as '**/w=-,model', or another --mesh",
        "plan hinted:declared --mesh model=2 --rule '**/w=-,model'",
    ),
    (
        "plan hinted:declared --mesh data=2 --rule v=data",
        "hint: another --rule",
        "plan hinted:declared --mesh data=2 --rule a/w=-,data",
    ),
]


@pytest.mark.parametrize(("fails", "printed", "works"), COMMAND_LINES, ids=lambda text: text[:40])
def test_the_command_says_its_own_words_and_no_python(
    fails, printed, works, working_directory, capsys
):
    make_checkpoints(working_directory)
    assert _app.run(shlex.split(fails)) != 0
    out, err = capsys.readouterr()
    assert printed.format(working_directory) in out + err
    assert fragments(out + err) == []
    assert not command_faults(out + err, COMMANDS)
    assert _app.run(shlex.split(works.format(working_directory))) == 0


def test_the_command_shows_the_hint_of_an_error_in_the_users_own_python(working_directory, capsys):
    assert _app.run(["plan", "hinted:wrong", "--mesh", "data=2"]) == 2
    assert "scope / f'layer_{i}'" in capsys.readouterr().err


# Programs.

PRELUDE = """
import functools
import os
import jax, jax.numpy as jnp, numpy as np
import jscope as js
import optax
from jscope import Saver, initializers as init, layers, regularizers, tf1, tf_checkpoint
from jscope.interop import safetensors, tensorflow
from jax.sharding import PartitionSpec, PartitionSpec as P
key = jax.random.key(0)
"""
CURES = [(situation, code) for situation in SITUATIONS for code in situation.cures]


@pytest.fixture
def jax_defaults():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def run(program, directory):
    exec(compile(PRELUDE + program, "program", "exec"), {"directory": str(directory)})


def text_of(situation, directory):
    """What the situation's error says."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  # of all classes
        run(situation.program, directory)
    assert type(caught.value).__name__ not in ("NameError", "SyntaxError", "AssertionError")
    return str(caught.value).replace(str(directory), "DIRECTORY")


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_the_code_that_an_error_offers_is_what_the_situation_runs(
    situation, tmp_path, jax_defaults
):
    text = text_of(situation, tmp_path)
    offered = {f for f in fragments(text) if not any(fnmatch(f, a) for a in situation.also)}
    assert offered == situation.cures.keys(), text


@pytest.mark.parametrize(
    ("situation", "code"), CURES, ids=[f"{situation.name}: {code}" for situation, code in CURES]
)
def test_the_line_that_an_error_offers_runs_in_its_place(situation, code, tmp_path, jax_defaults):
    cure = situation.cures[code]
    head, _, rest = cure.lstrip().partition("\n")
    line = code
    if head.startswith("FILL "):
        line, cure = code.replace("...", head.removeprefix("FILL ")), rest
    before, _, _ = situation.program.partition("# Fails:\n")
    run(before + cure.replace("$", line.replace("DIRECTORY", str(tmp_path))), tmp_path)


# Of the messages, what is no offer, or what no program of one process prints.
NO_OFFERS = {
    "_ops/scatter.py": {"indicesHOLE = HOLE"},
    "tf1/layers/_normalization.py": {"axis=HOLE"},
    "tf1/layers/_rnn_cells.py": {"state_is_tuple=False"},
    "layers.py": {"groups=HOLE", "noise_shape=HOLE", "num_heads=HOLE", "num_kv_heads=HOLE"},
    "saver/_encoding.py": {"type(x).__name__", "str(getattr(x, 'dtype', ''))"},  # parts of a lambda
    "saver/_processes.py": {"js.PerProcess(value)"},
    # Several processes save to a store: `tests/checkpoint/test_saver_stores.py`.
    "saver/_claims.py": {"Saver(..., lease=seconds)"},
    # Steps that go while they are read.
    "formats/_own_steps.py": {"Saver(directory, max_to_keep=...)"},
}


def offers(file):
    """The fragments of a file that can be run, but what is a text by itself: a part of another."""
    name = str(file.relative_to(PACKAGE))
    codes = {code for text, code in in_source(file) if code != text.text}
    codes -= NO_OFFERS.get(name, set())
    runs = ast.Call, ast.BinOp, ast.Subscript, ast.Assign, ast.With
    return {c for c in codes if any(isinstance(node, runs) for node in ast.walk(parse(c)))}


def test_what_is_listed_by_file_is_in_a_text_of_that_file():
    codes = {
        str(file.relative_to(PACKAGE)): {code for _, code in in_source(file)} for file in LIBRARY
    }
    keywords = {file: {keyword_of(code) for code in found} for file, found in codes.items()}
    stale = {file: {*listed} - keywords[file] for file, listed in ENTRY_POINTS.items()}
    stale |= {f"{file}:": listed - codes[file] for file, listed in NO_OFFERS.items()}
    assert not {file: names for file, names in stale.items() if names}


@pytest.mark.parametrize("file", LIBRARY, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_each_line_that_a_text_offers_is_run_by_a_situation(file):
    known = {code for situation in SITUATIONS for code in (*situation.cures, *situation.also)}
    globs = [glob for situation in SITUATIONS for glob in situation.also]
    missing = [
        code
        for code in offers(file)
        if not any(map(re.compile(".*".join(map(re.escape, code.split(HOLE)))).fullmatch, known))
        and not any(fnmatch(code, glob) for glob in globs)
    ]
    assert not missing, f"add a situation to tests/hint_situations.py that runs {missing}"
