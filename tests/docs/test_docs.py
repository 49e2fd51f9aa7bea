"""Documentation is code: pages and docstrings run, under JAX's own defaults.

In a page, the ``python`` blocks run one after the other in one namespace; a ``text`` block
right behind one is what it prints. A line ``$ jscope ...`` of a ``console`` block runs too, in
the same folder; what follows is what it prints.
A ``py`` block is TensorFlow's: `test_docs_tensorflow`.
"""

import contextlib
import doctest
import functools
import importlib
import io
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope
from jscope._cli._app import run as run_command

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ["README.md", *(str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("docs/*.md")))]
MODULES = sorted(m.name for m in pkgutil.walk_packages(jscope.__path__, "jscope."))


@pytest.fixture(autouse=True)
def jax_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("page", PAGES)
def test_page_runs_and_prints_what_it_says(page):
    text = (ROOT / page).read_text()
    namespace: dict[str, object] = {"__name__": "page"}
    printed = ""
    for match in BLOCK.finditer(text):
        language, code = match.groups()
        line = text[: match.start()].count("\n") + 2
        if language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile("\n" * (line - 1) + code, page, "exec"), namespace)
            printed = out.getvalue()
        elif language == "text" and printed:
            assert printed.rstrip() == code.rstrip(), f"{page}:{line}"
            printed = ""
        elif language == "console":
            assert console(code) == code.rstrip(), f"{page}:{line}"


def console(session):
    """The session as its commands give it now."""
    shown = []
    for command in re.findall(r"^\$ jscope (.*)", session, re.MULTILINE):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            run_command(shlex.split(command))
        shown += [f"$ jscope {command}", *out.getvalue().rstrip().split("\n")]
    return "\n".join(shown)


def test_readme_shows_code_and_output():
    languages = [m.group(1) for m in BLOCK.finditer((ROOT / "README.md").read_text())]
    assert languages.count("python") >= 8
    assert languages.count("text") == 2
    assert languages.count("sh") == 2


def test_readme_commands_are_one_line_each_and_name_files_that_exist():
    blocks = BLOCK.finditer((ROOT / "README.md").read_text())
    commands = [m.group(2).strip() for m in blocks if m.group(1) == "sh"]
    for command in commands:
        assert "\n" not in command
        for path in re.findall(r"[\w/]+\.(?:py|lock)", command):
            assert (ROOT / path).exists(), path
    assert commands[1] == "python3 tests/run.py"
    assert "python3 tests/run.py" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_resolve(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_tests_that_a_page_names_exist(page):
    for path in re.findall(r"`(tests/[\w./]+)`", (ROOT / page).read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    module = importlib.import_module(name)
    shared = {"functools": functools, "jax": jax, "jnp": jnp, "np": np, "js": jscope}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, extraglobs=shared, optionflags=flags)
    assert result.failed == 0


def test_docstrings_have_examples():
    attempted = 0
    for name in MODULES:
        for test in doctest.DocTestFinder().find(importlib.import_module(name)):
            attempted += len(test.examples)
    assert attempted >= 10
