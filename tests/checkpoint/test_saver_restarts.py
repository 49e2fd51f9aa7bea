"""What a Saver promises across processes: restarts, exits, crashes and devices.

Each test starts fresh interpreters, since only they can end, be killed or have eight devices.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js

PREAMBLE = """
import sys
import jax, jax.numpy as jnp, numpy as np
import jscope as js
directory = sys.argv[1]
"""


def start(code, *arguments, devices=1):
    environment = dict(os.environ, XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}")
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # each compiles, and saves are tested
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            PREAMBLE + textwrap.dedent(code),
            *map(str, arguments),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(code, *arguments, devices=1, status=0):
    process = start(code, *arguments, devices=devices)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    return out, err


ENDING = """
saver = js.Saver(directory)
assert saver.latest_step() is None
heavy = {"orbax", "tensorstore", "flax", "tensorflow", "absl"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
saver.save_async({"w": jnp.arange(3)}, 7)
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
saver.save_async(
    {"w": jnp.arange(1 << 21), "key": jax.random.key(3)}, 7, overwrite=True
)
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
del saver
"""

FAILING = """
from jscope.saver import _staging
flush_all = _staging.flush_all
def fail_for_some(*paths):
    if paths[0].name == "8":
        raise OSError(28, "No space left on device")
    flush_all(*paths)
_staging.flush_all = fail_for_some
js.Saver(directory).save_async({"w": jnp.ones(3)}, 8)
sys.exit(3)
"""


@pytest.mark.parametrize(
    ("ending", "status", "printed"),
    [
        ("", 0, ""),
        ("raise ZeroDivisionError", 1, "\nZeroDivisionError\n"),
        (FAILING, 3, "CheckpointError: Step 8 was not saved to {0}: OSError: [Errno 28] No space"),
    ],
    ids=["return", "exception", "exit"],
)
def test_a_program_that_ends_completes_its_saves_and_tells_of_failures(
    tmp_path, ending, status, printed
):
    _, err = run(ENDING + ending, tmp_path, status=status)
    assert printed.format(tmp_path) in err
    told = f"jscope: save_async to {tmp_path}/8 failed; its error was never retrieved:"
    assert (told in err) == (ending == FAILING)
    assert sorted(os.listdir(tmp_path)) == ["7", "checkpoint"]
    target = {"w": jax.ShapeDtypeStruct((1 << 21,), jnp.int32), "key": jax.random.key(0)}
    restored = js.Saver(tmp_path).restore(target)
    np.testing.assert_array_equal(restored["w"], np.arange(1 << 21))
    expected = jax.random.key_data(jax.random.key(3))
    np.testing.assert_array_equal(jax.random.key_data(restored["key"]), expected)


def test_a_killed_save_is_never_listed_and_every_listed_step_is_whole(tmp_path):
    """SIGKILL at several moments, of a writer that saves step after step."""
    code = """
    saver = js.Saver(directory, max_to_keep=None)
    step = 1 + max(saver.all_steps(), default=-1)
    while True:
        values = {f"v{i}": jnp.full(50_000, step, jnp.int32) for i in range(3)}
        saver.save_async(values, step)
        print("saving", flush=True)
        step += 1
    """
    target = {f"v{i}": jax.ShapeDtypeStruct((50_000,), jnp.int32) for i in range(3)}
    known = 0
    for i in range(3):
        process = start(code, tmp_path)
        for _ in range(3):
            assert process.stdout.readline() == "saving\n"
        time.sleep(0.017 * i)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        saver = js.Saver(tmp_path)
        assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
        steps = saver.all_steps()
        assert steps == tuple(range(len(steps)))
        for step in steps[known:]:
            for value in saver.restore(target, step).values():
                np.testing.assert_array_equal(value, np.full(50_000, step))
        assert len(steps) >= known + 2
        known = len(steps)
    saver.save({"x": jnp.ones(1)}, 10**6)
    assert saver.latest_step() == 10**6


SHARDED = """
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))
two = Mesh(np.array(jax.devices()[5:7]).reshape(1, 2), ("x", "y"))
def tree(w, key, small, mesh=mesh):
    def put(value, *spec):
        return jax.device_put(value, NamedSharding(mesh, P(*spec)))
    return {
        "w": put(jnp.arange(64.0).reshape(8, 8), *w),
        "bf16": put(jnp.arange(16, dtype=jnp.bfloat16), *key),
        "keys": put(jax.random.split(jax.random.key(5), 8), *key),
        "uint4": put(jnp.arange(16).astype("uint4"), *small),
        "one": jnp.float32(3),
    }
"""


def test_sharded_arrays_go_to_other_shardings_and_numbers_of_devices(tmp_path):
    run(
        SHARDED
        + """
assert len(jax.devices()) == 8
saver = js.Saver(directory)
saved = tree(("x", "y"), ("x",), (("x", "y"),))
saver.save(saved, 1)
saver.save_async(tree((None, "x"), (), ()), 2).result()
for step in (1, 2):
    others = tree(("y",), ("y",), ("x",)), tree((), (), ()), tree((None, "y"), ("y",), (), two)
    for target in (saved, *others):
        restored = saver.restore(target, step)
        assert js.VarTree(restored) == js.VarTree(saved)
        for name, value in target.items():
            assert restored[name].sharding == value.sharding, name
            assert restored[name].committed == value.committed
abstract = {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for name, x in saved.items()
}
restored = saver.restore(abstract)
assert {n: x.sharding for n, x in restored.items()} == {n: x.sharding for n, x in saved.items()}
plain = saver.restore({n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in saved.items()})
assert js.VarTree(plain) == js.VarTree(restored)
assert {x.sharding.num_devices for x in plain.values()} == {1}
with jax.default_device(jax.devices()[3]):
    there = {"w": jnp.zeros((8, 8)), "keys": jax.random.split(jax.random.key(0), 8)}
restored = saver.restore(there, unexpected="ignore")
for name, value in there.items():
    assert restored[name].sharding == value.sharding
    assert not restored[name].committed
odd = {"bf16": jax.ShapeDtypeStruct((16,), jnp.bfloat16, sharding=NamedSharding(mesh, P("x")))}
assert saver.restore(odd, select="bf16")["bf16"].sharding.spec == P("x")
""",
        tmp_path,
        devices=8,
    )
    expected = {
        "w": jnp.arange(64.0).reshape(8, 8),
        "bf16": jnp.arange(16, dtype=jnp.bfloat16),
        "keys": jax.random.split(jax.random.key(5), 8),
        "uint4": jnp.arange(16).astype("uint4"),
        "one": jnp.float32(3),
    }
    saver = js.Saver(tmp_path)
    for step in (1, 2):
        assert js.VarTree(saver.restore(expected, step)) == js.VarTree(expected)


def test_two_processes_share_a_directory_and_a_contested_step_is_one_of_theirs(tmp_path):
    code = """
    saver = js.Saver(directory, max_to_keep=None)
    mine = int(sys.argv[2])
    lost = 0
    for step in range(9):
        if step % 3 in (0, mine):
            try:
                saver.save({"x": jnp.full(1000, mine)}, step)
            except js.CheckpointExistsError:
                lost += 1
    print(lost)
    """
    processes = [start(code, tmp_path, mine) for mine in (1, 2)]
    lost = 0
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        lost += int(out)
    assert lost == 3
    saver = js.Saver(tmp_path)
    assert saver.all_steps() == tuple(range(9))
    for step in range(9):
        (value,) = set(
            np.asarray(saver.restore({"x": jnp.zeros(1000, jnp.int32)}, step)["x"]).tolist()
        )
        assert value == step % 3 or step % 3 == 0
    assert sorted(os.listdir(tmp_path)) == [*(str(step) for step in range(9)), "checkpoint"]
