"""Set everything up and run every check: ``python3 tests/run.py``.

Needs Python 3.11 to 3.13 with venv and pip, a POSIX system, on Linux gcc, and a package index;
everything else is installed, at the versions of `requirements.lock`, into `.venv` and
`.venv-newest` beside this checkout, the oldest Orbax into `.venv-oldest-orbax`, and PyTorch with
`transformers`, two gigabytes, into `.venv-transformers`. Each part prints its time and its budget.
A part that fails makes the whole fail, after the others have run; one over its budget is only
marked.

Imports: standard library only, since nothing is installed yet.
"""

import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / ".venv"
NEWEST = ROOT / ".venv-newest"
OLDEST_ORBAX = ROOT / ".venv-oldest-orbax"
TRANSFORMERS = ROOT / ".venv-transformers"
LOCKED = ["-c", "requirements.lock"]

TESTS = ["-m", "pytest", "-q", "-n", "2", "--durations=25", "--durations-min=5"]
# A test that hangs ends its worker after five minutes, with the stack of each thread.
TESTS += ["-o", "faulthandler_timeout=300", "-o", "faulthandler_exit_on_timeout=true"]
# The core's tests need no TensorFlow; its own files say "tensorflow" in their names. What is left
# out beside them has bytes, files, texts and requests for its subject, and no JAX.
LEFT_OUT = (
    *("tests/cli/", "tests/stores/", "tensorflow", "protocol", "hostile", "tf_checkpoint"),
    *("saver_faults", "store_faults", "saver_concurrent", "saver_damage"),
    *("saver_names", "saver_paths"),
)
CORE_TESTS = [*TESTS, *(f"--ignore-glob=*{part}*" for part in LEFT_OUT)]
ALL_TESTS = [
    *TESTS,
    *("--cov", "--cov-report=term-missing:skip-covered", "--cov-fail-under=95"),
]
ORBAX_TESTS = [
    f"tests/checkpoint/test_saver{part}.py"
    for part in ("", "_async", "_contents", "_foreign", "_orbax", "_reading")
]
# A minute of each; its docstring says how to run it for hours.
FUZZ = ["-max_total_time=60", "-verbosity=0", "-print_final_stats=1"]


def main() -> int:
    """Run the parts in order; 0 if all passed."""
    parts: list[tuple[str, int, Callable[[], str]]] = [
        ("set up the default interpreter", 5, set_up_default),
        ("ruff", 1, lambda: run(DEFAULT, "-m", "ruff", "check") and format_check()),
        ("mypy", 3, lambda: run(DEFAULT, "-m", "mypy")),
        ("all tests, default interpreter", 26, all_tests_on_default),
        ("the Saver on the oldest Orbax", 2, saver_on_oldest_orbax),
        ("core tests, newest interpreter", 14, core_tests_on_newest),
        ("Llama against transformers", 4, llama_against_transformers),
        ("fuzzing TensorFlow's formats", 2, lambda: fuzz("tensorflow")),
        ("fuzzing jscope's own", 2, lambda: fuzz("own")),
        ("fuzzing the other formats", 2, lambda: fuzz("others")),
    ]
    rows = []
    for title, budget, part in parts:
        print(f"\n=== {title} (budget {budget} min)", flush=True)
        begin = time.monotonic()
        try:
            outcome = part()
        except subprocess.CalledProcessError as error:
            outcome = f"FAILED with exit status {error.returncode}"
        minutes = (time.monotonic() - begin) / 60
        over = ", OVER BUDGET" if minutes > budget else ""
        rows.append((title, f"{minutes:5.1f} of {budget:2d} min{over}", outcome))
        if title.startswith("set up") and "FAILED" in outcome:
            break
    print("\n=== what ran")
    for title, minutes, outcome in rows:
        print(f"{title:32}  {minutes:18}  {outcome}")
    return int(any("FAILED" in outcome for _, _, outcome in rows))


def set_up_default() -> str:
    """Make `.venv` with the interpreter that runs this file."""
    if sys.platform == "linux" and shutil.which("gcc") is None:
        # The tests that break a Saver's file operations would be skipped.
        print("gcc is missing: install it, as in apt-get install gcc", file=sys.stderr)
        raise subprocess.CalledProcessError(127, "gcc")
    if not (DEFAULT / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", DEFAULT], check=True)
    run(DEFAULT, "-m", "pip", "install", "-q", *LOCKED, "uv")
    install(DEFAULT, "test", "peers")
    return f"passed: {versions(DEFAULT)}"


def format_check() -> str:
    """Ruff's formatter, as a check."""
    return run(DEFAULT, "-m", "ruff", "format", "--check")


def all_tests_on_default() -> str:
    """All tests; those that need TensorFlow may not be skipped (`conftest.py`)."""
    return run(DEFAULT, *ALL_TESTS, JSCOPE_TENSORFLOW="required")


def core_tests_on_newest() -> str:
    """The core's tests on the newest interpreter that uv finds, and so the newest JAX."""
    python = newest_python()
    if python is None:
        return "NOT RUN: uv finds no Python 3.12 or 3.13"
    uv("venv", "-q", "--allow-existing", "--python", python, str(NEWEST))
    install(NEWEST, "core-test")
    run(NEWEST, *CORE_TESTS)
    return f"passed: {versions(NEWEST)}"


def saver_on_oldest_orbax() -> str:
    """What touches Orbax, on the oldest version that the project allows.

    No third environment is needed: that version alone lies in front of the default one's.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (orbax,) = (need for need in project["dependencies"] if need.startswith("orbax-checkpoint"))
    python = str(DEFAULT / "bin" / "python")
    where = ["--python", python, "--target", str(OLDEST_ORBAX)]
    uv("pip", "install", "-q", *where, "--no-deps", "--resolution", "lowest-direct", orbax)
    path = os.pathsep.join(filter(None, [str(OLDEST_ORBAX), os.environ.get("PYTHONPATH")]))
    run(DEFAULT, "-m", "pytest", "-q", "-n", "2", *ORBAX_TESTS, PYTHONPATH=path)
    return f"passed: {versions(DEFAULT, PYTHONPATH=path)}"


def llama_against_transformers() -> str:
    """The example's Llama and that of `transformers`, in an environment of its own.

    The wheel of PyTorch is for GPUs; what it requires for them is left out.
    """
    uv("venv", "-q", "--allow-existing", "--python", sys.executable, str(TRANSFORMERS))
    install(TRANSFORMERS, "hf-test", more=["--override", "tests/interop/without_cuda.txt"])
    run(TRANSFORMERS, "tests/interop/without_cuda.py")
    test = "tests/interop/test_llama_transformers.py"
    return run(TRANSFORMERS, "-m", "pytest", "-q", test, JSCOPE_TRANSFORMERS="required")


def fuzz(formats: str) -> str:
    """Coverage-guided fuzzing of the readers of some formats."""
    return run(DEFAULT, "tests/hostile/fuzz.py", formats, *FUZZ)


def newest_python() -> str | None:
    """A Python 3.13 or 3.12 on this machine; uv can't run pyenv's shims, so look behind them."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    shims = [Path(folder) for folder in folders if Path(folder).name == "shims"]
    behind = [str(b) for s in shims for b in s.parent.glob("versions/3.1[23]*/bin")]
    path = os.pathsep.join([*behind, *folders])
    for version in ("3.13", "3.12"):
        found = subprocess.run(
            [DEFAULT / "bin" / "uv", "python", "find", "--no-python-downloads", version],
            env={**os.environ, "PATH": path, "VIRTUAL_ENV": ""},
            cwd=ROOT.parent,
            capture_output=True,
            text=True,
        )
        if found.returncode == 0:
            return found.stdout.strip()
    return None


def install(environment: Path, *groups: str, more: Sequence[str] = ()) -> None:
    """This checkout, editable, with dependency groups, at the locked versions."""
    python = str(environment / "bin" / "python")
    groups = tuple(f"--group={group}" for group in groups)
    uv("pip", "install", "-q", "--python", python, *LOCKED, *groups, *more, "-e", ".[all]")


def uv(*arguments: str) -> None:
    subprocess.run([DEFAULT / "bin" / "uv", *arguments], cwd=ROOT, check=True)


def run(environment: Path, *arguments: str, **variables: str) -> str:
    python = environment / "bin" / "python"
    subprocess.run([python, *arguments], cwd=ROOT, env=os.environ | variables, check=True)
    return "passed"


def versions(environment: Path, **variables: str) -> str:
    """The versions that matter, as that environment has them."""
    code = (
        "import platform; from importlib.metadata import version as v;"
        "print('Python ', platform.python_version(),"
        " *(f', {p} {v(p)}' for p in ('jax', 'flax', 'orbax-checkpoint')), sep='')"
    )
    python = environment / "bin" / "python"
    return subprocess.run(
        [python, "-c", code],
        env=os.environ | variables,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
