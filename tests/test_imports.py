import ast
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
DESIGN = PACKAGE.parent / "docs" / "design.md"
HEAVY = {"orbax", "flax", "tensorstore", "optax", "tensorflow"}

ORDER = re.search(r"```order\n(.*?)```", DESIGN.read_text(), re.DOTALL)[1]
ORDER = [line.split()[0] for line in ORDER.splitlines()]
MODULES = sorted(
    path.stem
    for path in PACKAGE.iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
)
PACKAGES = [name for name in MODULES if (PACKAGE / name).is_dir()]


def files_of(module):
    path = PACKAGE / module
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def imported(path):
    """The modules of jscope that a file imports, anywhere in it, as ``a`` or ``a.b``."""
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


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_map_lists_every_file_once():
    assert len(set(ORDER)) == len(ORDER)
    assert set(MODULES) <= set(ORDER), "add the new file to the map in docs/design.md"
    assert set(ORDER) <= set(MODULES), "the map in docs/design.md lists a file that is gone"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_up(module):
    above = ORDER[: ORDER.index(module)]
    for path in files_of(module):
        siblings = {name.split(".")[0] for name in imported(path)} - {module}
        # "from . import x" of the package's own __init__ gives no module at all.
        later = siblings & set(MODULES) - set(above)
        assert not later, f"{path.name} may not import {sorted(later)}"
        assert siblings <= set(MODULES), siblings - set(MODULES)


@pytest.mark.parametrize("package", PACKAGES)
def test_files_of_a_package_do_not_import_in_a_circle(package):
    graph = {}
    for path in files_of(package):
        inside = {name.split(".")[1] for name in imported(path) if name.startswith(package + ".")}
        graph[path.stem] = inside & {other.stem for other in files_of(package)}
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_importing_jscope_loads_not_even_jax():
    loaded = run("import jscope, json, sys; print(json.dumps(sorted(sys.modules)))")
    assert not {name.split(".")[0] for name in loaded} & (HEAVY | {"jax", "jaxlib", "numpy"})


def test_public_names_but_the_saver_load_nothing_heavy():
    loaded = run(
        "import jscope, json, sys\n"
        "[getattr(jscope, name) for name in dir(jscope) if name != 'Saver']\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert "jscope._tree" in loaded
    assert not {name.split(".")[0] for name in loaded} & HEAVY


@pytest.mark.parametrize("module", ["_errors", "_names", "_table", "_matching"])
def test_the_first_rooms_need_the_standard_library_only(module):
    loaded = run(f"import jscope.{module}, json, sys; print(json.dumps(sorted(sys.modules)))")
    assert not {name.split(".")[0] for name in loaded} & {"jax", "numpy"}


def test_checkpoint_files_need_numpy_only():
    loaded = run(
        "import jscope._files.npz, jscope._files.safetensors, json, sys\n"
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
