"""Damaging a small checkpoint in every way, and looking at what a restore makes of it.

Imports: `tally`, `trees`, jscope, JAX and NumPy.
"""

import dataclasses
import itertools
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

import jscope as js
from jscope.saver import Saver

from .tally import Tally
from .trees import packing_up_to

STEPS = (1, 2)
LAYOUTS: dict[str, dict[str, bool]] = {"usual": {}, "portable": {"portable": True}}


def tree(step: int) -> dict[str, np.ndarray]:
    """A tree of a few bytes; the two steps' have the same names and shapes."""
    return {
        "large/w": np.arange(40, dtype=np.int32).reshape(5, 8) * step,
        "large/b": np.arange(34, dtype=np.float32) + step,
        "small/w": np.arange(6, dtype=np.float32).reshape(2, 3) - step,
        "small/n": np.array([0x12345678, -step], np.int32),
    }


def target() -> dict[str, jax.ShapeDtypeStruct]:
    """What to restore them into."""
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in tree(0).items()}


def save(directory: Path, **options: object) -> None:
    """Save both steps, with the larger arrays in files of their own."""
    with packing_up_to(100), Saver(directory) as saver:
        for step in STEPS:
            saver.save(tree(step), step, **options)


@dataclasses.dataclass(frozen=True)
class Damage:
    """One way to damage a file.

    Attributes:
        file: Which, relative to the step's directory.
        what: What is done to it.
        content: What it holds afterwards, or None if it is deleted.
    """

    file: str
    what: str
    content: bytes | None


def files(directory: Path) -> dict[str, bytes]:
    """All files below a directory, with their contents."""
    found = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


def flips(of: Mapping[str, bytes], stride: int = 1) -> Iterator[Damage]:
    """Every bit flipped, or every so many."""
    places = ((name, i) for name, content in of.items() for i in range(8 * len(content)))
    for name, i in itertools.islice(places, 0, None, stride):
        content = bytearray(of[name])
        content[i // 8] ^= 1 << i % 8
        yield Damage(name, f"bit {i % 8} of byte {i // 8} flipped", bytes(content))


def cuts(of: Mapping[str, bytes], stride: int = 1) -> Iterator[Damage]:
    """Every file cut to every shorter length, or every so many."""
    places = ((name, length) for name, content in of.items() for length in range(len(content)))
    for name, length in itertools.islice(places, 0, None, stride):
        yield Damage(name, f"cut to {length} bytes", of[name][:length])


def losses(of: Mapping[str, bytes], others: Mapping[str, bytes]) -> Iterator[Damage]:
    """Every file deleted, emptied, zeroed, longer, or replaced by any of another step."""
    for name, content in of.items():
        yield Damage(name, "deleted", None)
        yield Damage(name, "zeroed", bytes(len(content)))
        yield Damage(name, "doubled", content * 2)
        yield Damage(name, "longer by a byte", content + b"\0")
        for other, theirs in others.items():
            yield Damage(name, f"replaced by the other step's {other}", theirs)


def every(directory: Path, layout: str, stride: int = 1) -> Iterator[Tally]:
    """Every damage to step 1, or of bits and lengths every so many."""
    own, others = (files(directory / str(step)) for step in STEPS)
    yield look(directory, layout, "bits flipped", flips(own, stride))
    yield look(directory, layout, "files cut", cuts(own, stride))
    yield look(directory, layout, "files lost or swapped", losses(own, others))


def flips_of_values(directory: Path, stride: int = 1, *, verify: bool = True) -> Tally:
    """Every bit of the arrays' bytes flipped, wherever they are in the files.

    For the usual layout, where an array's bytes are in a file as they are. A point is reported only
    if the error has the names of the file and of the variable.
    """
    own = files(directory / str(STEPS[0]))
    tally = Tally("usual layout", "bits of arrays flipped")
    for name, value in tree(STEPS[0]).items():
        data = value.tobytes()
        for file, content in own.items():
            at = content.find(data)
            if at < 0:
                continue
            for i in range(8 * at, 8 * (at + len(data)), stride):
                flipped = bytearray(content)
                flipped[i // 8] ^= 1 << i % 8
                path = directory / str(STEPS[0]) / file
                path.write_bytes(flipped)
                outcome, text = _outcome(lambda: _whole(directory, verify))
                path.write_bytes(content)
                tally.points += 1
                if outcome == "reported" and not (
                    repr(name) in text and file.split("/")[-1] in text
                ):
                    outcome = "other"
                if outcome == "reported":
                    tally.outcomes[outcome] += 1
                else:
                    tally.problems.append((outcome, tally.points, f"{file}, {name}: {text}"))
    return tally


def look(directory: Path, layout: str, mode: str, damages: Iterator[Damage]) -> Tally:
    """Damage step 1 in each way, one after the other, and restore it.

    The tally's outcomes are ``"reported"``, an error of jscope's; and ``"exact"``, the right
    values, where a damage is harmless, as in a file that only Orbax reads. `Saver.verify` must
    report any. A point is one damage and one way to read.
    """
    tally = Tally(f"{layout} layout", mode)
    for number, damage in enumerate(damages):
        path = directory / str(STEPS[0]) / damage.file
        before = path.read_bytes()
        if damage.content is None:
            path.unlink()
        else:
            path.write_bytes(damage.content)
        try:
            for how, read in READS.items():
                tally.points += 1
                outcome, text = _outcome(lambda read=read: read(directory))
                if how == "verify" and outcome == "exact" and damage.content != before:
                    outcome, text = "silent", "finds nothing"
                if outcome in ("reported", "exact"):
                    tally.outcomes[outcome] += 1
                else:
                    text = f"{damage.file} {damage.what}: {how}: {text}"
                    tally.problems.append((outcome, number, text))
        finally:
            path.write_bytes(before)
    return tally


def _outcome(read: Callable[[], Mapping[str, np.ndarray]]) -> tuple[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = read()
    except js.JscopeError as error:
        return "reported", str(error)
    except Exception:
        return "other", traceback.format_exc()
    expected = tree(STEPS[0])
    wrong = [
        name
        for name, value in values.items()
        if np.asarray(value).dtype != expected[name].dtype
        or np.asarray(value).tobytes() != expected[name].tobytes()
    ]
    return ("wrong", f"{wrong} have other values") if wrong else ("exact", "")


def _whole(directory: Path, verify: bool = True) -> Mapping[str, np.ndarray]:
    return Saver(directory, verify=verify).restore(target(), STEPS[0])


def _part(directory: Path) -> Mapping[str, np.ndarray]:
    saver = Saver(directory)
    values = dict(tree(0), **{"large/b": target()["large/b"], "small/n": target()["small/n"]})
    chosen = ["large/b", "small/n"]
    return js.select(saver.restore(values, STEPS[0], select=chosen), chosen)


def _opened(directory: Path) -> Mapping[str, np.ndarray]:
    with Saver(directory).open(STEPS[0]) as saved:
        return {name: saved[name].read() for name in ("small/w", "large/w")}


def _verified(directory: Path) -> Mapping[str, np.ndarray]:
    Saver(directory).verify(STEPS[0])
    return {}


READS = {
    "restore": _whole,
    "restore of a part": _part,
    "open": _opened,
    "verify": _verified,
}
