"""Attacks, each a checkpoint and what the error must say of it.

`ATTACKS` maps a description to ``(files, message)``. Every checksum is right, so that what is
tested is the check behind it. Files are as in `pieces`.
"""

from jscope.tf_checkpoint._bytes import BYTES, FIXED64, VARINT, field, varint_bytes
from jscope.tf_checkpoint._crc32c import masked_crc32c_of
from jscope.tf_checkpoint._partitions import part_key

from .pieces import (
    HEADER,
    INDEX,
    bundle,
    contents,
    entry,
    only,
    table,
    v1,
    v1_meta,
)

HUGE = (1 << 63) - 1
WHOLE = ((None,),)


def _dims(*sizes):
    return b"".join(field(2, BYTES, field(1, VARINT, size)) for size in sizes)


def _versioned(*fields):
    return field(1, VARINT, 1) + field(3, BYTES, b"".join(fields))


def _strings(data, count, checksum=None):
    row = entry(7, (count,), 0, len(data), data)
    if checksum is not None:
        row = row.replace(
            masked_crc32c_of(data).to_bytes(4, "little"), checksum.to_bytes(4, "little")
        )
    return bundle([("s", row)], data)


def _parts(boxes, rows, shape=(4,)):
    whole = field(1, VARINT, 1) + field(2, BYTES, _dims(*shape))
    whole += entry(shape=None, boxes=boxes)[entry(shape=None).__len__() :]
    return bundle([("p", whole), *((part_key("p", box), row) for box, row in rows)])


def _snappy(*pieces, length=None):
    data = b"".join(pieces)
    return only(varint_bytes(len(data) if length is None else length) + data, compression=1)


ROW = (0, b"", HEADER)
ENTRIES = {
    "a size beyond the file": (
        bundle([("w", entry(shape=(25,), size=100))]),
        "m.data-00000-of-00001, offset 0: expected 'w' of 100 bytes, found a file of 64 bytes",
    ),
    "an offset beyond the file": (
        bundle([("w", entry(offset=60))]),
        "offset 60: expected 'w' of 8 bytes, found a file of 64 bytes",
    ),
    "a size of 2^63": (
        bundle([("w", entry(size=1 << 63))]),
        "expected an extent that ends below 2^63",
    ),
    "a negative size": (bundle([("w", entry(size=-8))]), "found -8 bytes at 0"),
    "an offset that overflows": (bundle([("w", entry(offset=HUGE))]), "ends below 2^63"),
    "a negative offset": (bundle([("w", entry(offset=-8))]), "found 8 bytes at -8"),
    "a shape of 2^60 elements": (
        bundle([("w", entry(shape=(1 << 30, 1 << 30)))]),
        "expected a shape with less than 2^59 elements",
    ),
    "no elements, but 2^62 columns": (
        bundle([("w", entry(2, shape=(0, 1 << 62), size=0))]),
        "expected a shape with less than 2^59 elements",
    ),
    "a shape of a negative size": (
        bundle([("w", entry(shape=_dims(-1)))]),
        "expected the size of an axis, found -1",
    ),
    "a shape that doesn't match the size": (
        bundle([("w", entry(shape=(3,)))]),
        "expected 12 bytes of float (3,), found a size of 8",
    ),
    "300 axes": (bundle([("w", entry(shape=(1,) * 300))]), "at most 254 axes, found 300"),
    "65 axes": (
        bundle([("w", entry(shape=(1,) * 64 + (2,)))]),
        "has 65 axes, which NumPy can't hold",
    ),
    "an unknown rank": (
        bundle([("w", entry(shape=_dims(2) + field(3, VARINT, 1)))]),
        "expected a shape of known rank",
    ),
    "two shapes": (
        bundle([("w", entry(more=field(2, BYTES, _dims(2))))]),
        "expected one shape, found two",
    ),
    "no dtype": (bundle([("w", entry(dtype=0))]), "expected a dtype's number, found 0"),
    "a variant": (bundle([("w", entry(dtype=21))]), "has dtype variant, which NumPy can't hold"),
    "a dtype of the future": (bundle([("w", entry(dtype=99))]), "has dtype unknown (99)"),
    "a shard that isn't there": (
        bundle([("w", entry(shard=1))]),
        "expected a shard below 1, found 1",
    ),
    "overlapping extents": (
        bundle([("v", entry()), ("w", entry(offset=4))]),
        "expected an entry that begins at 8 or later in shard 0, found 4",
    ),
    "one extent for two variables": (
        bundle([("v", entry()), ("w", entry())]),
        "expected an entry that begins at 8 or later",
    ),
    "a bool of 2": (
        bundle([("w", entry(10, (2,), 0, 2, b"\1\2"))], b"\1\2"),
        "offset 1: expected a bool, 0 or 1, found 2",
    ),
    "a name that isn't UTF-8": (
        bundle([(b"\xfe", entry())]),
        r"expected a name in UTF-8, found b'\xfe'",
    ),
    "a missing data file": (
        {INDEX: bundle([("w", entry())])[INDEX]},
        "m.data-00000-of-00001 is missing. Copy it beside the other files",
    ),
}
HEADERS = {
    "no header": (
        {INDEX: table([contents([(0, b"w", entry())])])},
        "expected a bundle's header under the empty key, found b'w'",
    ),
    "no rows": ({INDEX: table([], contents([]))}, "expected a bundle's header"),
    "no shards": (bundle([], header=b""), "expected the number of shards, found 0"),
    "2^31 shards": (
        bundle([], header=field(1, VARINT, 1 << 31)),
        "expected the number of shards, found 2147483648",
    ),
    "no such endianness": (
        bundle([], header=HEADER + field(2, VARINT, 2)),
        "expected endianness 0 (little) or 1 (big), found 2",
    ),
    "readers of the future": (
        bundle([], header=_versioned(field(2, VARINT, 3))),
        "expected a bundle for readers of version 1, found one for 3",
    ),
    "readers that are excluded": (
        bundle([], header=_versioned(field(3, VARINT, 1))),
        "expected a bundle for readers of version 1",
    ),
    "readers that are excluded, packed": (
        bundle([], header=_versioned(field(3, BYTES, b"\3\1"))),
        "expected a bundle for readers of version 1",
    ),
}
STRINGS = {
    "more strings than bytes": (_strings(b"\0" * 8, 1 << 40), "expected 1099511627776 strings"),
    "a string of 2^64 - 1 bytes": (
        _strings(varint_bytes(-1) + bytes(4), 1),
        "expected 18446744073709551619 bytes of strings, found 4",
    ),
    "strings that end early": (_strings(b"\1" + bytes(4), 1), "expected 5 bytes of strings"),
    "lengths with a wrong checksum": (
        _strings(b"\1" + bytes(4) + b"x", 1),
        "expected lengths with checksum 00000000",
    ),
    "strings with a wrong checksum": (
        _strings(b"\1" + masked_crc32c_of(b"\1\0\0\0").to_bytes(4, "little") + b"x", 1, 0xDEADBEEF),
        "expected strings with checksum deadbeef",
    ),
    "a length that never ends": (
        _strings(b"\xff" * 20, 2),
        "expected the last byte of a varint, found ten bytes that all say that one follows",
    ),
}
FIRST, LAST = ((0, 2),), ((2, 2),)
PARTS = {
    "a part that is missing": (
        _parts([FIRST, LAST], [(FIRST, entry())]),
        "expected a part of 'p', float (2,), found none",
    ),
    "a part of another shape": (
        _parts([FIRST, LAST], [(FIRST, entry()), (LAST, entry(shape=(1, 2), offset=8))]),
        "expected a part of 'p', float (2,), found ('float', (1, 2))",
    ),
    "a part that is partitioned itself": (
        _parts([FIRST, LAST], [(FIRST, entry(boxes=[FIRST])), (LAST, entry(offset=8))]),
        "expected a part of 'p', float (2,), found ('float', (2,))",
    ),
    "parts with a gap": (
        _parts([FIRST], [(FIRST, entry())]),
        "stored parts of 'p' don't cover [0:4] of (4,) once each",
    ),
    "parts that overlap": (
        _parts(
            [FIRST, ((1, 2),), LAST],
            [(FIRST, entry()), (((1, 2),), entry(offset=8)), (LAST, entry(offset=16))],
        ),
        "don't cover",
    ),
    "parts that overlap, and as many as needed": (
        _parts([FIRST, ((1, 2),)], [(FIRST, entry()), (((1, 2),), entry(offset=8))]),
        "don't cover",
    ),
    "a whole of 2^58 elements, hardly stored": (
        _parts([FIRST], [(FIRST, entry())], (1 << 58,)),
        "don't cover",
    ),
    "a part of more axes": (_parts([(None, None)], []), "expected a box of 1 axes, found more"),
    "a part of less axes": (_parts([()], []), "expected a box of 1 axes, found 0"),
    "a part outside": (
        _parts([((3, 2),)], []),
        "expected a part of an axis of 4, found 2 from 3 on",
    ),
    "a part with a negative start": (
        _parts([((-2, 2),)], []),
        "expected a part of an axis of 4, found 2 from -2 on",
    ),
}
BIG_KEY = b"k" * 8000
NOTHING = entry(shape=(0,), size=0, data=b"")
TABLES = {
    "an empty file": ({INDEX: b""}, "expected a table's footer, 48 bytes, found a file of 0"),
    "another kind of file": (
        {INDEX: b"\x89HDF\r\n\x1a\n" * 9},
        "expected a table's magic number 57fb808b247547db",
    ),
    "a key twice": (
        only(contents([ROW, (0, b"w", entry()), (0, b"w", entry())])),
        "expected a key after b'w', found b'w'",
    ),
    "keys that fall": (
        only(contents([ROW, (0, b"w", entry()), (0, b"v", entry())])),
        "expected a key after b'w', found b'v'",
    ),
    "a block twice": (
        {INDEX: table([contents([ROW])], contents([(0, b"y", b"\0\x10"), (0, b"z", b"\0\x10")]))},
        "expected a block from offset 21 on, found 0",
    ),
    "blocks in a circle": (
        {INDEX: table([contents([ROW])], contents([(0, b"y", b"\x08\4"), (0, b"z", b"\0\4")]))},
        "expected a block from offset 17 on, found 0",
    ),
    "a block beyond the file": (
        {INDEX: table([], contents([(0, b"z", b"\0" + varint_bytes(HUGE))]))},
        "expected a block that ends before offset",
    ),
    "a key beyond its index": (
        {INDEX: table([contents([ROW, (0, b"zz", entry())])])},
        "expected keys of at most b'z', found b'zz'",
    ),
    "a key that shares what isn't there": (
        only(contents([(1, b"", HEADER)])),
        "expected a key that shares 1 bytes, found 0 before",
    ),
    "an entry longer than its block": (
        only(varint_bytes(0) * 2 + varint_bytes(1 << 32) + contents([])),
        "expected an entry of 4294967296 bytes, found 0 left in the block",
    ),
    "no restarts": (only(bytes(4)), "expected the number of restarts in a block, found 0"),
    "restarts beyond the block": (
        only(b"\xff" * 4),
        "expected the number of restarts in a block, found 4294967295",
    ),
    "a block too short for restarts": (only(b"\1"), "expected the number of restarts in a block"),
    "prefixes that expand": (
        only(
            contents(
                [
                    ROW,
                    (0, BIG_KEY, NOTHING),
                    *((8000, bytes([letter]), NOTHING) for letter in range(150)),
                ]
            )
        ),
        "expected keys of at most 16 times their block's size, found more",
    ),
    "an unknown compression": (
        only(contents([ROW]), compression=2),
        "expected compression 0 (none) or 1 (Snappy), found 2",
    ),
    "a varint of eleven bytes": (
        only(b"\xff" * 11 + contents([])),
        "expected the last byte of a varint, found ten bytes",
    ),
    "a varint of 70 bits": (
        only(b"\xff" * 9 + b"\x7f" + contents([])),
        "expected a varint of at most 64 bits, found a larger one",
    ),
}
SNAPPY = {
    "a bomb": (
        _snappy(b"\0x", length=(1 << 32) - 1),
        "expected at most 22 times 7 bytes, all that Snappy can do, found 4294967295",
    ),
    "less than claimed": (_snappy(b"\0x", length=2), "expected 2 decompressed bytes, found 1"),
    "more than claimed": (
        _snappy(b"\0x", b"\x01\x01", length=2),
        "expected a copy of bytes that are there, found 4 from 1 back",
    ),
    "a literal longer than claimed": (
        _snappy(b"\4xy", length=1),
        "expected a literal that fits, found one of 2 bytes",
    ),
    "a literal longer than the block": (_snappy(b"\xfc" + b"\xff" * 4), "a literal that fits"),
    "a literal without its length": (
        _snappy(b"\xfc\1", length=9),
        "expected 4 bytes of a literal's length, found 1",
    ),
    "a copy from before the beginning": (
        _snappy(b"\0x", b"\x0a\x02\x00", length=4),
        "expected a copy of bytes that are there, found 3 from 2 back",
    ),
    "a copy from nowhere": (_snappy(b"\0x", b"\x0a\0\0", length=4), "found 3 from 0 back"),
    "a copy without its offset": (
        _snappy(b"\0x", b"\x0b\1", length=4),
        "expected 4 bytes of a copy's offset, found 1",
    ),
}
PROTOBUF = {
    "a group": (bundle([("w", b"\x0b")]), "wire 0, 1, 2 or 5, found wire 3"),
    "field 0": (bundle([("w", b"\0\0")]), "expected a protobuf field number, found 0"),
    "a field longer than its message": (
        bundle([("w", b"\x12\x7f")]),
        "expected a field of 127 bytes, found 0",
    ),
    "a tag without value": (bundle([("w", b"\x08")]), "last byte of a varint, found the end"),
    "a fixed64 that is cut off": (
        bundle([("w", b"\x49\0")]),
        "expected a field of 8 bytes, found 1",
    ),
    "another wire": (
        bundle([("w", field(1, FIXED64, 8) + bytes(7))]),
        "expected wire 0 for field 1, found wire 1",
    ),
}
KEY = part_key("v", (None,))
FLOATS = field(5, BYTES, bytes(8))
INTEGERS = field(7, BYTES, b"\1\2")
VERSION_1 = {
    "no row of contents": (
        {"m": table([contents([(0, b"v", b"")])])},
        "expected a row with the empty key, found none",
    ),
    "values that are missing": (v1([v1_meta()]), "expected the values of 'v', found no such row"),
    "a row without values": (
        v1([v1_meta()], [(KEY, None)]),
        "expected the values of 'v', found none",
    ),
    "too few numbers": (
        v1([v1_meta(shape=(3,))], [(KEY, FLOATS)]),
        "expected 12 bytes of numbers, found 8",
    ),
    "too few varints": (
        v1([v1_meta(shape=(3,), dtype=3)], [(KEY, INTEGERS)]),
        "expected 3 varints, found 2",
    ),
    "a varint that is cut off": (
        v1([v1_meta(shape=(1,), dtype=3)], [(KEY, field(7, BYTES, b"\1\x80"))]),
        "expected 1 varints",
    ),
    "a varint of eleven bytes": (
        v1([v1_meta(shape=(1,), dtype=3)], [(KEY, field(7, BYTES, b"\xff" * 10 + b"\1"))]),
        "expected varints of at most 64 bits",
    ),
    "a varint that goes on for 100,000 bytes": (
        v1([v1_meta(shape=(1,), dtype=3)], [(KEY, field(7, BYTES, b"\xff" * 100_000 + b"\1"))]),
        "expected a varint of at most ten bytes",
    ),
    "a number out of range": (
        v1([v1_meta(dtype=4)], [(KEY, field(7, BYTES, b"\1" + varint_bytes(256)))]),
        "expected numbers from 0 to 255, found 256",
    ),
    "a negative number out of range": (
        v1([v1_meta(dtype=4)], [(KEY, field(7, BYTES, b"\1" + varint_bytes(-1)))]),
        "expected numbers from 0 to 255, found -1",
    ),
    "a bool of 2": (
        v1([v1_meta(dtype=10)], [(KEY, field(11, BYTES, b"\1\2"))]),
        "expected numbers from 0 to 1, found 2",
    ),
    "too few strings": (
        v1([v1_meta(dtype=7)], [(KEY, field(8, BYTES, b"x"))]),
        "expected 2 strings, found 1",
    ),
    "a dtype that version 1 doesn't have": (
        v1([v1_meta(dtype=14)], [(KEY, FLOATS)]),
        "expected a dtype that version 1 can hold, found bfloat16",
    ),
    "a variable without a slice": (
        v1([v1_meta(boxes=())]),
        "expected a variable with a name, a dtype and a slice, found 'v', dtype 1, 0 slices",
    ),
    "a variable without a name": (v1([v1_meta("")]), "expected a variable with a name"),
    "a part twice": (
        v1([v1_meta(), v1_meta()]),
        "expected each part of 'v' once, found it twice",
    ),
    "shards that contradict each other": (
        v1([v1_meta()], name="m-00000-of-00002")
        | v1([v1_meta(shape=(3,))], name="m-00001-of-00002"),
        "expected float (2,) as another part of 'v', found float (3,)",
    ),
}
ATTACKS = {
    f"{group}: {what}": attack
    for group, attacks in {
        "entries": ENTRIES,
        "headers": HEADERS,
        "strings": STRINGS,
        "parts": PARTS,
        "tables": TABLES,
        "snappy": SNAPPY,
        "protobuf": PROTOBUF,
        "version 1": VERSION_1,
    }.items()
    for what, attack in attacks.items()
}
