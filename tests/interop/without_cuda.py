"""Let torch run on a CPU without the 4 GB of CUDA's libraries that its wheel for Linux requires.

The package index has no smaller wheel. Torch's own libraries name CUDA's, so that none of them can
be loaded alone; but on a CPU only functions of the small runtime, ``nvidia-cuda-runtime``, are
called. In place of each other library this puts one into torch's folder that has the functions of
the same names, each of which ends the process. Nothing is done where none is missing.

Imports: standard library only; gcc and binutils are run.
"""

import importlib.metadata
import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

# Of the system, and of torch's folder.
_THERE = re.compile(r"lib(c|m|pthread|dl|rt|gcc_s|stdc\+\+)\.so|ld-linux|libcudart")


def main() -> None:
    folder = Path(str(importlib.metadata.distribution("torch").locate_file("torch/lib")))
    libraries = sorted(folder.glob("libtorch*.so"))
    for name in sorted({n for library in libraries for n in needed(library)}):
        if not _THERE.match(name) and not (folder / name).exists():
            make(folder / name, *functions_of(name, libraries))
            print(f"{name} is replaced by an empty one")


def needed(library: Path) -> list[str]:
    """The names of the libraries that one needs."""
    return re.findall(r"\(NEEDED\).*\[(.*)\]", _output("readelf", "-d", str(library)))


def functions_of(name: str, libraries: list[Path]) -> tuple[list[str], str]:
    """What some libraries miss that is one's, and the version by which they ask for it.

    A version is called as the library, or as the beginning of its name; else there is none, and
    the functions are.
    """
    stem = name.removeprefix("lib").partition(".so")[0].lower()
    found = defaultdict(set)
    for library in libraries:
        for line in _output("nm", "-D", "--undefined-only", str(library)).splitlines():
            function, _, version = line.split()[-1].partition("@")
            is_its = (
                stem.startswith(version.lower()) or version == name
                if version
                else function.lower().startswith(stem)
            )
            if is_its:
                found[version].add(function)
    version = max(found, key=lambda version: len(found[version]), default="")
    return sorted(found[version]), version


def make(path: Path, functions: list[str], version: str) -> None:
    """A library of functions that end the process."""
    with tempfile.TemporaryDirectory() as name:
        source, script = Path(name) / "empty.c", Path(name) / "version"
        source.write_text("".join(f"void {f}(void) {{ __builtin_trap(); }}\n" for f in functions))
        script.write_text(f"{version} {{ global: *; }};\n")
        options = [f"-Wl,--version-script,{script}"] if version else []
        options.append(f"-Wl,-soname,{path.name}")
        command = ["gcc", "-shared", "-fPIC", "-w", *options, "-o", str(path), str(source)]
        subprocess.run(command, check=True)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
