"""The index of a checkpoint: its format, and that nothing but what was written is read."""

import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope.formats import _sealed_json


def crc32c(data):
    """By the definition (RFC 3720): reflected, polynomial 0x1EDC6F41, inverted at both ends."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def edit(path, change):
    """Change an index as someone would who knows the format, checksum and all."""
    members = json.loads(path.read_text())
    del members["crc32c"]
    change(members)
    path.write_bytes(_sealed_json.sealed(members))


def test_the_format_is_as_published(saver):
    """By a golden: what version 2 writes must stay readable."""
    values = {
        "enc/w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "k": jax.random.key(0),
        "none": jnp.zeros((3, 0), jnp.bfloat16),
        "u": np.arange(3).astype("uint4"),
    }
    path = saver.save(values, 12)
    packed = (path / "packed.bin").read_bytes()
    six, key, three = np.arange(6, dtype="<f4").tobytes(), bytes(8), bytes([0, 1, 2])
    assert packed == six + bytes(40) + key + bytes(56) + three + bytes(61)
    text = (path / "jscope.json").read_bytes()
    assert int(text[-11:-3], 16) == crc32c(text[:-24])
    members = json.loads(text)
    assert len(members.pop("save_id")) == 32
    assert isinstance(members.pop("saved_at"), float)
    assert text[-24:-2] == b', "crc32c": "' + members.pop("crc32c").encode() + b'"'
    assert members == {
        "format": "jscope",
        "version": 2,
        "step": 12,
        "portable": False,
        "metadata": None,
        "metrics": {},
        "containers": {"dict": len(values)},
        "files": {"packed.bin": [192, zlib.crc32(packed)]},
        "values": {
            "enc/w": {
                "shape": [2, 3],
                "dtype": "float32",
                "place": "packed",
                "offset": 0,
                "crc32c": crc32c(six),
            },
            "k": {
                "shape": [],
                "dtype": "key<fry>",
                "place": "packed",
                "stored_shape": [2],
                "stored_dtype": "uint32",
                "offset": 64,
                "crc32c": crc32c(key),
                "key_impl": "threefry2x32",
            },
            "none": {"shape": [3, 0], "dtype": "bfloat16", "place": "index"},
            "u": {
                "shape": [3],
                "dtype": "uint4",
                "place": "packed",
                "stored_dtype": "uint8",
                "offset": 128,
                "crc32c": crc32c(three),
            },
        },
    }


def test_an_index_cut_at_every_length_is_an_error_of_ours(saver):
    index = saver.save({"w": jnp.zeros(0)}, 1) / "jscope.json"
    content = index.read_bytes()
    for length in range(len(content)):
        index.write_bytes(content[:length])
        with pytest.raises(js.CheckpointError, match=r"Step 1 can't be read from .*Error: "):
            saver.restore({"w": jnp.zeros(0)})


def test_every_flipped_bit_of_an_index_is_an_error_of_ours(saver):
    index = saver.save({"w": jnp.zeros(0)}, 1) / "jscope.json"
    content = index.read_bytes()
    for place in range(len(content) * 8):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        index.write_bytes(changed)
        with pytest.raises(js.CheckpointError, match=r"Step 1 can't be read from .*Error: "):
            saver.restore({"w": jnp.zeros(0)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "jscope.json is not a file of jscope"),
        ({"version": 1}, "jscope.json has version 1; this jscope reads 2"),
        ({"step": 7}, "jscope.json is the index of step 7"),
        ({"values": []}, "jscope.json is damaged: its 'values': [] is not an object"),
        ({"values": {"w": {}}}, "jscope.json is damaged at 'w': {}"),
        ({"values": {"w": 3}}, "jscope.json is damaged at 'w': 3"),
    ],
)
def test_an_index_that_is_not_ours_is_an_error(saver, changes, message):
    path = saver.save({"w": jnp.zeros(0)}, 1) / "jscope.json"
    edit(path, lambda members: members.update(changes))
    with pytest.raises(js.CheckpointError) as caught:
        saver.restore({"w": jnp.zeros(0)})
    assert f"ValueError: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("shape", [-1]),
        ("shape", [True]),
        ("shape", 3),
        ("stored_shape", [2.0]),
        ("dtype", 3),
        ("place", "nowhere"),
        ("offset", -1),
        ("chunks", [[[0], [2], 0]]),
        ("crc32c", "x"),
        ("key_impl", 3),
        ("extra", 0),
    ],
)
def test_a_damaged_entry_is_an_error(saver, member, value):
    path = saver.save({"w": jnp.ones(2)}, 1) / "jscope.json"
    edit(path, lambda members: members["values"]["w"].update({member: value}))
    with pytest.raises(js.CheckpointError, match=r"jscope.json is damaged at 'w': \{'sh"):
        saver.restore({"w": jnp.ones(2)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stored_dtype": "nonsense"}, r"float32' \(2,\) is not stored as 'nonsense' \(2,\)"),
        ({"crc32c": 0}, r"checksum of its part at \(0,\) of shape \(2,\) differs"),
        ({"stored_shape": [20]}, r"float32' \(2,\) is not stored as 'float32' \(20,\)"),
        ({"offset": 60}, "packed.bin ends at byte 64, and 'w' has 8 bytes from byte"),
        ({"offset": 1 << 20}, "packed.bin ends at byte 64"),
        ({"place": "index"}, "damaged at 'w'"),
    ],
)
def test_an_entry_that_contradicts_what_is_stored_is_an_error(saver, changes, message):
    path = saver.save({"w": jnp.ones(2)}, 1) / "jscope.json"
    edit(path, lambda members: members["values"]["w"].update(changes))
    with pytest.raises(js.CheckpointError, match=message):
        saver.restore({"w": jnp.ones(2)})


def test_an_index_that_is_no_json_object(saver):
    path = saver.save({"w": jnp.ones(2)}, 1) / "jscope.json"
    path.write_text("[]")
    with pytest.raises(js.CheckpointError, match="is not a file of jscope"):
        saver.restore({"w": jnp.ones(2)})
