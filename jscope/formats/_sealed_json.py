"""JSON objects with a checksum: the index of a checkpoint, the state file of a directory.

One object in UTF-8, on one line. Its first members are ``format`` and ``version``; the last one,
``crc32c``, is the CRC-32C of all bytes of the file before it, as eight hexadecimal digits::

    {"format": "jscope", "version": 2, ..., "crc32c": "89abcdef"}

The checksum detects damage, not forgery: any program can compute it. So the members may be any
JSON, and are read by the functions of `_json_members`. Of a member that is there twice, the last
one counts.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from ._checksums import crc32c_of
from ._json_members import short

_END = b', "crc32c": "%08x"}\n'


def sealed(members: Mapping[str, Any]) -> bytes:
    """The bytes of a JSON object of these members, with its checksum."""
    text = json.dumps(members).encode()[:-1]
    return text + _END % crc32c_of(text)


def unsealed(data: bytes, name: str, *, format: str, version: int) -> dict[str, Any]:
    """The members of a JSON object, from its bytes, if its checksum is right.

    Args:
        data: The whole file.
        name: Its name in errors.
        format: The ``format`` that it must have.
        version: The ``version`` that it must have.

    Raises:
        ValueError: If it is damaged, or of another format or version.
    """
    try:
        members = json.loads(data.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{name} is damaged: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}") from None
    if not isinstance(members, dict) or members.get("format") != format:
        raise ValueError(f"{name} is not a file of jscope")
    found = members.get("version")
    if type(found) is not int or found != version:
        raise ValueError(f"{name} has version {short(found)}; this jscope reads {version}")
    length = len(_END % 0)
    if data[-length:] != _END % crc32c_of(data[:-length]):
        raise ValueError(f"{name} is damaged: its checksum differs")
    return members


def _refuse_constant(constant: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python's JSON reads and JSON does not have."""
    raise ValueError(f"{constant} is not JSON")
