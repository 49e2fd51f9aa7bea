"""Pieces of which hostile checkpoints are made: rows, tables and bundles with any content.

A checkpoint here is a dictionary from a file's name, such as ``"m.index"``, to its bytes.
"""

from jscope.tf_checkpoint._bytes import BYTES, FIXED32, VARINT, field, varint_bytes
from jscope.tf_checkpoint._crc32c import masked_crc32c_of
from jscope.tf_checkpoint._partitions import box_bytes, shape_bytes
from jscope.tf_checkpoint._table import FOOTER, MAGIC, table_bytes

HEADER = field(1, VARINT, 1) + field(3, BYTES, field(1, VARINT, 1))
INDEX, DATA = "m.index", "m.data-00000-of-00001"


def entry(dtype=1, shape=(2,), offset=0, size=8, data=None, *, shard=0, boxes=(), more=b""):
    """A BundleEntryProto; its checksum is that of ``data``, or of eight zeros."""
    out = field(1, VARINT, dtype)
    if shape is not None:
        out += field(2, BYTES, shape if isinstance(shape, bytes) else shape_bytes(shape))
    out += field(3, VARINT, shard) + field(4, VARINT, offset) + field(5, VARINT, size)
    out += field(6, FIXED32, masked_crc32c_of(bytes(8) if data is None else data))
    return out + b"".join(field(7, BYTES, box_bytes(box)) for box in boxes) + more


def bundle(rows, data=bytes(64), header=HEADER):
    """A V2 checkpoint of one shard."""
    rows = [(b"", header), *((k.encode() if isinstance(k, str) else k, v) for k, v in rows)]
    return {INDEX: table_bytes(sorted(rows)), DATA: data}


def contents(entries, restarts=(0,)):
    """A block of ``(shared, key, value)`` as they are."""
    out = b""
    for shared, key, value in entries:
        out += b"".join(map(varint_bytes, (shared, len(key), len(value)))) + key + value
    return out + b"".join(n.to_bytes(4, "little") for n in (*restarts, len(restarts)))


def signed(block, compression=0):
    """A block with its trailer."""
    whole = block + bytes([compression])
    return whole + masked_crc32c_of(whole).to_bytes(4, "little")


def table(blocks, index=None, compression=0):
    """A table of blocks as they are, under the separators ``z``, ``zz``, ``zzz``, ..."""
    out, handles = b"", []
    for block in blocks:
        handles.append(varint_bytes(len(out)) + varint_bytes(len(block)))
        out += signed(block, compression)
    if index is None:
        index = contents([(0, b"z" * (i + 1), h) for i, h in enumerate(handles)])
    end = varint_bytes(0) + varint_bytes(0) + varint_bytes(len(out)) + varint_bytes(len(index))
    return out + signed(index) + end.ljust(FOOTER - 8, b"\0") + MAGIC


def only(block, compression=0):
    """A V2 checkpoint whose index has one block, as it is."""
    return {INDEX: table([block], compression=compression), DATA: bytes(64)}


def v1(metas, rows=(), name="m"):
    """A V1 checkpoint of one file: SavedSliceMetas, and rows of key and TensorProto."""
    meta = b"".join(field(1, BYTES, one) for one in metas)
    values = [
        (key, b"" if proto is None else field(2, BYTES, field(3, BYTES, proto)))
        for key, proto in rows
    ]
    return {name: table_bytes(sorted([(b"", field(1, BYTES, meta)), *values]))}


def v1_meta(name="v", shape=(2,), dtype=1, boxes=((None,),)):
    """A SavedSliceMeta."""
    out = field(1, BYTES, name.encode()) + field(2, BYTES, shape_bytes(shape))
    out += field(3, VARINT, dtype)
    return out + b"".join(field(4, BYTES, box_bytes(box)) for box in boxes)
