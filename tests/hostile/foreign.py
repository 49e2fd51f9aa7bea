"""Other libraries' files, changed by someone who knows the formats: lengths and checksums fit.

`VICTIMS` make an intact checkpoint of each format, of which one part is replaced: a header, an
index, a member of an archive, a file of metadata. `Victim.texts` are that part with every member
replaced by every text of `own.HOSTILE`; the fuzzer makes others. `READS` open, list and read what
came of it. Each gives values whose bytes the files have, or a `CheckpointError`.

Imports: jscope, JAX, NumPy, Flax, Orbax, msgpack, and `own`.
"""

import contextlib
import dataclasses
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import msgpack
import numpy as np
import orbax.checkpoint as v0
from flax import serialization
from numpy.lib import format as npy

import jscope as js
from jscope import formats
from jscope.saver._checkpoint import Checkpoint

from . import own

VALUES = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "m": np.array([1, 2, 3], np.int16)}
# What the text of an array's header in NumPy's format may be replaced by: it is Python.
PYTHON = [
    *("()", "(1,)", "(-1,)", "(2.0,)", "(True,)", "(1 << 40,)", "(1099511627776,)", "(0, 1 << 62)"),
    *("(" * 90 + ")" * 90, "[" * 5000, "(" + "1, " * 90 + ")", "{}", "None", "True", "1", "-1"),
    *("'O'", "'|O8'", "'V2'", "'V8'", "'<U1'", "'<U1000000000'", "'S0'", "'M8[s]'", "'>f4'"),
    *("'f4,f4'", "'(1099511627776,)f4'", "[('bfloat16', '<u2')]", "[('int4', 'u1')]", "'\\0'"),
    *("[('a', 'O')]", "[('bfloat16', '<u2', (1099511627776,))]", "'x' * 9", "__import__('os')"),
]


@dataclasses.dataclass
class Victim:
    """An intact checkpoint, of which one part is replaced.

    Attributes:
        path: What is opened.
        file: What the part is in, or is.
        text: The intact part.
        seal: From the part to the file.
        holds: Whether bytes may be those of a value.
        texts: The part with something replaced, by names of files outside.
    """

    path: Path
    file: Path
    text: bytes
    seal: Callable[[bytes], bytes]
    holds: Callable[[bytes], bool]
    texts: Callable[[tuple[str, ...]], Iterator[bytes]]

    def put(self, text: bytes) -> None:
        """Replace the part."""
        self.file.write_bytes(self.seal(text))

    @property
    def members(self) -> dict[str, Any] | None:
        """The part, if it is a JSON object."""
        if not self.text.startswith(b"{"):
            return None
        members: dict[str, Any] = json.loads(self.text)
        return members


def safetensors_header(folder: Path) -> Victim:
    """The header of one file, with its length made right."""
    header, data = _tensors(VALUES, {"format": "np"})
    file = folder / "model.safetensors"
    return Victim(
        path=file,
        file=file,
        text=header,
        seal=lambda text: struct.pack("<Q", len(text)) + text + data,
        holds=lambda found: found in data,
        texts=lambda names: _json_texts(header, names),
    )


def safetensors_index(folder: Path) -> Victim:
    """The index of two shards."""
    files = {name: f"model-{i:05d}-of-00002.safetensors" for i, name in enumerate(VALUES, 1)}
    for name, file in files.items():
        header, data = _tensors({name: VALUES[name]}, {})
        (folder / file).write_bytes(struct.pack("<Q", len(header)) + header + data)
    text = json.dumps({"metadata": {"total_size": 30}, "weight_map": files}).encode()
    return Victim(
        path=folder,
        file=folder / "model.safetensors.index.json",
        text=text,
        seal=lambda text: text,
        holds=lambda found: found in {value.tobytes() for value in VALUES.values()},
        texts=lambda names: _json_texts(text, names),
    )


def _tensors(values: dict[str, Any], metadata: dict[str, str]) -> tuple[bytes, bytes]:
    """A header and the data of a file, by the format's definition."""
    codes = {"float32": "F32", "int16": "I16"}
    members: dict[str, Any] = {"__metadata__": metadata}
    data = b""
    for name, value in values.items():
        offsets = [len(data), len(data) + value.nbytes]
        members[name] = {"dtype": codes[value.dtype.name], "shape": list(value.shape)}
        members[name]["data_offsets"] = offsets
        data += value.tobytes()
    return json.dumps(members).encode(), data


def npz_member(folder: Path) -> Victim:
    """One array in an archive, whose sizes and checksum are made right."""
    stream = io.BytesIO()
    npy.write_array(stream, VALUES["w"])
    text, other = stream.getvalue(), io.BytesIO()
    npy.write_array(other, VALUES["m"])

    def seal(text: bytes) -> bytes:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
            members.writestr("w.npy", text)
            members.writestr("m.npy", other.getvalue())
        return archive.getvalue()

    data = VALUES["w"].tobytes()
    file = folder / "model.npz"
    return Victim(
        path=file,
        file=file,
        text=text,
        seal=seal,
        holds=lambda found: _is_in(found, seal_of_array(file)),
        texts=lambda names: _npy_texts(data),
    )


def seal_of_array(file: Path) -> bytes:
    """The bytes of all members of an archive, by Python's own reader."""
    with zipfile.ZipFile(file) as archive:
        return b"".join(archive.read(member) for member in archive.infolist())


def _is_in(found: bytes, data: bytes) -> bool:
    """Whether bytes are somewhere; numbers of the other byte order were turned."""
    turned = (np.frombuffer(found, np.uint8).reshape(-1, n)[:, ::-1] for n in _sizes(found))
    return found in data or any(numbers.tobytes() in data for numbers in turned)


def _sizes(found: bytes) -> list[int]:
    return [n for n in (2, 4, 8, 16) if len(found) % n == 0]


def _npy_texts(data: bytes) -> Iterator[bytes]:
    intact = {"descr": "'<f4'", "fortran_order": "False", "shape": "(2, 3)"}
    for name in intact:
        for text in (*PYTHON, *own.HOSTILE):
            members = ", ".join(f"'{n}': {t}" for n, t in (intact | {name: text}).items())
            header = f"{{{members}}}\n".encode("utf-8", "surrogatepass")
            for version, size in ((1, "<H"), (2, "<I"), (3, "<I")):
                if len(header) < 1 << 16:
                    yield (
                        b"\x93NUMPY%c\0" % version + struct.pack(size, len(header)) + header + data
                    )
    for length in (0, 1, 1 << 31, (1 << 32) - 1):
        yield b"\x93NUMPY\2\0" + struct.pack("<I", length) + data


def npz_archive(folder: Path) -> Victim:
    """A whole archive; most changes are found by its checksums."""
    archive = io.BytesIO()
    np.savez(archive, **VALUES)
    text = archive.getvalue()
    file = folder / "model.npz"
    return Victim(
        path=file,
        file=file,
        text=text,
        seal=lambda text: text,
        holds=lambda found: found in {value.tobytes() for value in VALUES.values()},
        texts=lambda names: _flipped(text),
    )


def _flipped(text: bytes) -> Iterator[bytes]:
    for at in range(len(text)):
        for mask in (1, 0x80, 0xFF):
            yield text[:at] + bytes([text[at] ^ mask]) + text[at + 1 :]


_EXTENSION = "extension"


def msgpack_file(folder: Path) -> Victim:
    """A file of Flax from before it used Orbax."""
    array = {_EXTENSION: 1, "parts": [[2, 3], "float32", VALUES["w"].tobytes()]}
    scalar = {_EXTENSION: 3, "parts": [[], "int16", b"\1\0"]}
    complex_number = {_EXTENSION: 2, "parts": [1.0, 2.0]}
    members = {"c": complex_number, "e": {}, "n": 3, "params": {"w": array}, "s": scalar}
    text = _packed(members)
    values = {"params": {"w": VALUES["w"]}, "s": np.int16(1), "c": 1 + 2j, "n": 3, "e": {}}
    assert text == serialization.msgpack_serialize(values)
    file = folder / "checkpoint_1"
    return Victim(
        path=file,
        file=file,
        text=text,
        seal=lambda text: text,
        holds=lambda found: found in file.read_bytes(),
        texts=lambda names: _msgpack_texts(members, text),
    )


def _msgpack_texts(members: dict[str, Any], text: bytes) -> Iterator[bytes]:
    hostile = [json.loads(text) for text in own.HOSTILE if len(text) < 4000]
    chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 1 << 40}, "chunks": {}}
    extensions = [{_EXTENSION: code, "parts": [[1 << 40], "f4", b""]} for code in range(5)]
    extensions += [chunked, chunked | {"shape": {}}, chunked | {"chunks": {"0": extensions[1]}}]
    dtypes = ["object", "V8", "M8[s]", "U1", "S3", "f4,f4", "(1099511627776,)f4", "bfloat16"]
    for path in own.paths_of(members):
        for value in (*hostile, *extensions, *dtypes, b"", b"\xff", [1 << 40], 1.5, -1):
            changed = own.changed(members, path, value)
            with contextlib.suppress(OverflowError, ValueError, RecursionError, TypeError):
                yield _packed(changed)  # unless it can't be
        yield _packed(own.changed(members, path, None, pop=True))
    yield from _flipped(text)
    yield from (text[:size] for size in range(len(text)))
    yield b"\xc1" + text
    yield b"\x81\xa1w" * 100_000 + b"\xc0"
    yield from (
        first + b"\xff" * 4 + text for first in (b"\xdf", b"\x81\xa1w\xdd", b"\x81\xa1w\xc9")
    )


def _packed(value: Any) -> bytes:
    return bytes(msgpack.packb(_for_packing(value), strict_types=True))


def _for_packing(value: Any) -> Any:
    if isinstance(value, dict) and _EXTENSION in value:
        code, parts = value[_EXTENSION], value.get("parts")
        return msgpack.ExtType(code, msgpack.packb(_for_packing(parts)))
    if isinstance(value, dict):
        return {key: _for_packing(below) for key, below in value.items()}
    return [_for_packing(below) for below in value] if isinstance(value, list) else value


def orbax_file(name: str, **options: Any) -> Callable[[Path], Victim]:
    """A file of Orbax's metadata, in a checkpoint of one of its layouts."""

    def made(folder: Path) -> Victim:
        path = folder / "step"
        values = {**VALUES, "k": jax.random.key(3), "n": 3, "s": "text", "o": None, "l": [1.5]}
        v0.Checkpointer(v0.PyTreeCheckpointHandler(**options)).save(path, values)
        text = (path / name).read_bytes()
        numbers = [np.float64(1.5), np.int64(3), np.int32(3)]  # if they are said to be arrays
        arrays = [*VALUES.values(), jax.random.key_data(values["k"]), *numbers]
        held = {np.asarray(array).tobytes() for array in arrays}
        # An array's own shape, dtype and name of a chunk have no checksum; a chunk that is not
        # there is filled.
        is_of_one = name.startswith("m/")
        return Victim(
            path=path,
            file=path / name,
            text=text,
            seal=lambda text: text,
            holds=lambda found: is_of_one or found in held,
            texts=lambda names: _json_texts(text, names),
        )

    return made


VICTIMS: dict[str, Callable[[Path], Victim]] = {
    "safetensors": safetensors_header,
    "safetensors' index": safetensors_index,
    "a member of npz": npz_member,
    "npz": npz_archive,
    "msgpack": msgpack_file,
    "Orbax's metadata": orbax_file("_METADATA"),
    "Orbax's metadata of Zarr": orbax_file("_METADATA", use_ocdbt=False, use_zarr3=True),
    "Orbax's metadata of a checkpoint": orbax_file("_CHECKPOINT_METADATA"),
    "Orbax's metadata of arrays": orbax_file("array_metadatas/process_0"),
    "Orbax's strings": orbax_file("_strings.json"),
    "an array of Orbax": orbax_file("m/.zarray", use_ocdbt=False),
    "an array of Orbax, Zarr 3": orbax_file("m/zarr.json", use_ocdbt=False, use_zarr3=True),
}


def _json_texts(text: bytes, names: tuple[str, ...]) -> Iterator[bytes]:
    members = json.loads(text)
    for _, _, replaced in own.replacements(members, names):
        yield replaced.encode("utf-8", "surrogatepass")
    yield from (text.encode("utf-8", "surrogatepass") for text in own.HOSTILE)
    yield from (b"", b"\xff", b"[" * 1_000_000, text.decode().encode("utf-16"), text[:-1])


# Reading.


def opened(victim: Victim) -> None:
    """All of it, and what is told of it."""
    with Checkpoint(formats.open(victim.path)) as saved:
        repr(saved), saved.nbytes, saved.shapes(), repr(saved.metadata)
        for variable in saved.values():
            value = variable.read()
            if jax.dtypes.issubdtype(getattr(value, "dtype", None), jax.dtypes.prng_key):
                value = np.asarray(jax.random.key_data(value))
            if hasattr(value, "dtype"):
                assert value.nbytes == variable.nbytes, variable
                assert victim.holds(value.tobytes()) or victim.holds(value.tobytes("F")), variable
                if variable.shape and value.ndim == len(variable.shape):
                    assert variable[:1].tobytes() == value[:1].tobytes(), variable


def restored(victim: Victim) -> None:
    """Everything, in its containers; names that no `VarTree` can have are an error of their own."""
    with contextlib.suppress(js.VariableNameError):
        js.Saver(victim.path.parent / "run").restore(step=victim.path)


def listed(victim: Victim) -> None:
    """Names and shapes, without any array."""
    js.list_variables(victim.path)
    js.checkpoint_exists(victim.path)


READS: dict[str, Callable[[Any], Any]] = {"open": opened, "restore": restored, "list": listed}
