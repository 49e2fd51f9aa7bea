"""Values that are not arrays: Python's None, numbers, strings and bytes, as text and back.

Their dtype in the index is ``python`` and the name of their type; they come back as what they
were, of the same type, to the last bit:

======================  =====================================================================
``python None``         the empty text
``python bool``         ``true`` or ``false``
``python int``          hexadecimal, of any length: ``-0x1f``
``python float``        its eight bytes, the sign first, as hexadecimal digits
``python complex``      the same twice, real and imaginary part
``python str``          itself
``python bytes``        hexadecimal digits
``python PerProcess``   the values of all processes: see `_per_process`
======================  =====================================================================
"""

import struct
from collections.abc import Callable
from typing import Any, TypeAlias

from ._json_members import short
from ._per_process import PerProcess, values_of

# A tuple has the values of all processes.
PythonValue: TypeAlias = bool | int | float | complex | str | bytes | tuple[Any, ...] | None

PER_PROCESS = "python PerProcess"

_PREFIX = "python "
_WRITE: dict[type, Callable[[Any], str]] = {
    type(None): lambda value: "",
    bool: lambda value: "true" if value else "false",
    int: hex,
    float: lambda value: struct.pack(">d", value).hex(),
    complex: lambda value: struct.pack(">dd", value.real, value.imag).hex(),
    str: lambda value: value,
    bytes: lambda value: value.hex(),
    PerProcess: PerProcess.text,
}
_READ: dict[str, Callable[[str], PythonValue]] = {
    "None": {"": None}.__getitem__,
    "bool": {"true": True, "false": False}.__getitem__,
    "int": lambda text: int(text, 16),
    "float": lambda text: struct.unpack(">d", bytes.fromhex(text))[0],
    "complex": lambda text: complex(*struct.unpack(">dd", bytes.fromhex(text))),
    "str": lambda text: text,
    "bytes": bytes.fromhex,
    "PerProcess": values_of,
}
PYTHON_DTYPES = frozenset(_PREFIX + name for name in _READ)


def python_dtype(value: object) -> str | None:
    """The name in place of the dtype of a value that is not an array; None if it can't be stored.

    A subclass of these, such as an enumeration's member, is not one of them.
    """
    if type(value) not in _WRITE:
        return None
    return _PREFIX + ("None" if value is None else type(value).__name__)


def python_text(value: object) -> str:
    """The text of a value of Python for which `python_dtype` is not None.

    Raises:
        CheckpointValueError: If it is a `PerProcess` of what can't be saved.
    """
    return _WRITE[type(value)](value)


def is_python(dtype: str) -> bool:
    """Whether this is the dtype of a value that is not an array."""
    return dtype.startswith(_PREFIX)


def python_value(dtype: str, text: str | None) -> PythonValue:
    """The value of Python, from its dtype and its text.

    Raises:
        ValueError: If there is none.
    """
    try:
        return _READ[dtype.removeprefix(_PREFIX)]("" if text is None else text)
    except (KeyError, ValueError, struct.error) as error:
        raise ValueError(f"{short(text)} is not a {dtype}: {error}") from error
