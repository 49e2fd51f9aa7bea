import ast
import functools
import graphlib
import importlib
import json
import pathlib
import re
import subprocess
import sys

import pytest

import jscope

PACKAGE = pathlib.Path(jscope.__file__).parent
MAP = (PACKAGE.parent / "docs" / "code.md").read_text()
HEAVY = {"orbax", "flax", "tensorstore", "optax", "tensorflow"}

ORDER = re.search(r"```order\n(.*?)```", MAP, re.DOTALL)[1]
ORDER = [line.split()[0] for line in ORDER.splitlines()]
FIGURE = re.search(r"```mermaid\ngraph TD\n(.*?)```", MAP, re.DOTALL)[1]
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}
PACKAGES = sorted(
    path.stem
    for path in PACKAGE.iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
)
# The packages whose files the map lists one by one.
LISTED = {module.split(".")[0] for module in ORDER if "." in module}


def in_map(module):
    """The line of the map that a file is in: its own, or its package's."""
    package = module.split(".")[0]
    return module if package in LISTED else package


def imported(path):
    """The names in jscope that a file imports, anywhere in it, as ``a`` or ``a.b``."""
    package = ("jscope", *path.relative_to(PACKAGE).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            kept = len(package) - node.level + 1 if node.level else 0
            start = ".".join([*package[:kept], *filter(None, [node.module])])
            found |= {f"{start}.{alias.name}" for alias in node.names}
    inside = {name.removeprefix("jscope.") for name in found if name.startswith("jscope.")}
    assert "jscope" not in found, f"{path.name} imports jscope itself"
    return inside


@functools.cache
def edges(module):
    """The files that a file imports, also those in packages in packages."""
    found = set()
    for name in imported(FILES[module]):
        parts = name.split(".")
        tried = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        found |= {next((file for file in tried if file in FILES), parts[0])}
    return frozenset(found - {module})


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_map_lists_every_file_once():
    assert len(set(ORDER)) == len(ORDER)
    there = set(map(in_map, FILES))
    assert there <= set(ORDER), "add the new file to the map in docs/code.md"
    assert set(ORDER) <= there, "the map in docs/code.md lists a file that is gone"


@pytest.mark.parametrize("module", FILES)
def test_imports_point_up(module):
    place = ORDER.index(in_map(module))
    for other in edges(module) - {""}:
        if in_map(other) != in_map(module):
            assert ORDER.index(in_map(other)) < place, f"{module} may not import {other}"


def test_files_do_not_import_in_a_circle():
    graph = {module: {file for file in edges(module) if file in FILES} for module in FILES}
    assert len(tuple(graphlib.TopologicalSorter(graph).static_order())) == len(FILES)


def test_the_figure_of_the_packages_shows_their_imports():
    direct = {package: set() for package in PACKAGES}
    for module in FILES:
        package = module.split(".")[0]
        direct[package] |= {file.split(".")[0] for file in edges(module)} - {package}

    def reached(package):
        return direct[package].union(*map(reached, direct[package]))

    follows = {p: set().union(*map(reached, direct[p]), set()) for p in PACKAGES}
    arrows = {f"{p} --> {other}" for p in PACKAGES for other in direct[p] - follows[p]}
    assert {line.strip() for line in FIGURE.splitlines()} == arrows


def test_importing_jscope_loads_not_even_jax():
    loaded = run("import jscope, json, sys; print(json.dumps(sorted(sys.modules)))")
    assert not {name.split(".")[0] for name in loaded} & (HEAVY | {"jax", "jaxlib", "numpy"})


def test_public_names_but_the_saver_load_nothing_heavy():
    loaded = run(
        "import jscope, json, sys\n"
        "[getattr(jscope, name) for name in dir(jscope) if name != 'Saver']\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert "jscope._tree.vartree" in loaded
    assert not {name.split(".")[0] for name in loaded} & HEAVY


@pytest.mark.parametrize("module", ["_errors", "_names.names", "_names.selectors", "_tree.text"])
def test_the_first_rooms_need_the_standard_library_only(module):
    loaded = run(f"import jscope.{module}, json, sys; print(json.dumps(sorted(sys.modules)))")
    assert not {name.split(".")[0] for name in loaded} & {"jax", "numpy"}


def test_checkpoint_files_need_numpy_only():
    loaded = run(
        "import jscope.formats.npz, jscope.formats.safetensors, json, sys\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert not {name.split(".")[0] for name in loaded} & (HEAVY | {"jax", "safetensors", "rich"})


# The table of contents.


def test_the_two_tables_of_contents_list_the_same_names():
    checked, homes = {}, {}
    for node in ast.parse((PACKAGE / "__init__.py").read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                for alias in line.names:
                    assert alias.asname == alias.name  # "X as X" says that a name is public
                    checked[alias.name] = line.module or ""
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
            for home, names in ast.literal_eval(node.value).items():
                homes |= dict.fromkeys(names.split(), home)
    modules = dict.fromkeys(jscope._MODULES, "")
    assert checked == homes | modules
    assert dir(jscope) == sorted(checked)


@pytest.mark.parametrize("name", dir(jscope))
def test_every_public_name_resolves_and_is_documented(name):
    value = getattr(jscope, name)
    assert value is getattr(jscope, name)
    assert not name.startswith("_")
    if callable(value) and hasattr(value, "__qualname__"):
        assert value.__doc__, f"{name} has no docstring"
        assert value.__module__.startswith("jscope.")


def test_every_error_is_public():
    errors = importlib.import_module("jscope._errors")
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.JscopeError):
            assert name in dir(jscope), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'jscope' has no attribute 'vartree'"):
        _ = jscope.vartree
