"""Files that are not a checkpoint of a known kind: what they seem to be, and what to do."""

import zipfile
from typing import NamedTuple

from .._stores.files import first_bytes
from .._stores.remote import AnyPath
from .._stores.stream import opened_stream


class _Kind(NamedTuple):
    """A kind of file that is not a checkpoint: how it begins or ends, and what to do.

    Attributes:
        first: The bytes that such a file begins with.
        endings: What its name ends with; only looked at if ``first`` is empty.
        text: What it is, and what to do.
    """

    first: bytes
    endings: tuple[str, ...]
    text: str


_PYTORCH = (
    "is a file of PyTorch, a pickle. Load it in PyTorch, and write its tensors by "
    "safetensors.torch.save_file."
)
_PICKLE = (
    "is a pickle of Python. Load it by the program that wrote it, and write its arrays by "
    "numpy.savez."
)
_KEYS = "the arrays with their names by numpy.savez."
_HDF5 = f"is a file of HDF5, as Keras writes. Read it with h5py, and write {_KEYS}"
_NPY = f"is one array of NumPy, without a name. Read it by numpy.load, and write {_KEYS}"
_STATE = "is TensorFlow's list of its checkpoints. Give its directory."
_KINDS = (
    _Kind(b"\x89HDF\r\n\x1a\n", (), _HDF5),
    _Kind(b"\x93NUMPY", (), _NPY),
    _Kind(b"GGUF", (), "is a file of llama.cpp. Give the safetensors file that it was made of."),
    _Kind(b"model_checkpoint_path:", (), _STATE),
    _Kind(b'{"format": "jscope', (), "is a file of jscope's Saver. Give its directory."),
    _Kind(b"", (".pt", ".pth", ".bin"), _PYTORCH),
    _Kind(b"\x80", (), _PICKLE),
    _Kind(
        b"",
        (".eqx",),
        "is a file of Equinox, arrays without names. Read it by equinox.tree_deserialise_leaves, "
        "and save the tree by a Saver.",
    ),
    _Kind(
        b"{",
        (),
        "is JSON, and not an index of safetensors, whose name ends with '.safetensors.index.json'.",
    ),
)
_LONGEST = max(len(kind.first) for kind in _KINDS)


def what_it_seems(path: AnyPath) -> str:
    """What a file that is no known checkpoint seems to be, and what to do."""
    first = first_bytes(path, _LONGEST, follow=True)
    if not first:
        return "is empty."
    if first.startswith(b"PK\3\4"):
        return _unknown_archive(path)
    for kind in _KINDS:
        if first.startswith(kind.first) if kind.first else path.suffix in kind.endings:
            return kind.text
    return (
        f"begins with {first[:8]!r}, as no file of jscope, Orbax, Flax, safetensors, NumPy or "
        "TensorFlow does. If one of them wrote it, it is damaged or not whole: fetch it again."
    )


def _unknown_archive(path: AnyPath) -> str:
    """What a zip archive that is no known checkpoint seems to be, and what to do."""
    try:
        with opened_stream(path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        names = []
    if any(name.endswith("data.pkl") for name in names):
        return _PYTORCH
    if "model.weights.h5" in names:
        return (
            "is an archive of Keras. Load it in Keras, and write its variables with their paths by "
            "numpy.savez."
        )
    return "is a zip archive, and not an npz file: not all of its members are .npy files."
