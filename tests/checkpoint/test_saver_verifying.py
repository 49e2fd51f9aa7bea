"""`Saver.verify`, progress bars, and signals that ask the program to end."""

import io
import json
import os
import signal
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jscope as js
from jscope.formats import _own_packed, _sealed_json
from jscope.saver import Saver, _progress

TREE = {"a": np.arange(5.0), "b": np.ones(3, np.int8), "n": 3}


def flip(path, at, bit=0):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def test_verify_counts_the_bytes_and_finds_every_damaged_value(saver):
    path = saver.save(TREE, 1)
    assert saver.verify() == saver.verify(1) == 43
    flip(path / "packed.bin", 1)
    flip(path / "packed.bin", 66)
    with pytest.raises(js.CheckpointError) as caught:
        saver.verify(1)
    assert str(caught.value) == (
        f"Step 1 in {path} is damaged. 3 findings:\n"
        "  packed.bin is damaged: its checksum differs\n"
        "  'a' in packed.bin: the checksum of its part at (0,) of shape (5,) differs\n"
        "  'b' in packed.bin: the checksum of its part at (0,) of shape (3,) differs"
    )


def test_verify_names_the_shard_that_is_damaged(saver, monkeypatch):
    monkeypatch.setattr(_own_packed, "LIMIT", 0)
    mesh = Mesh(np.array(jax.devices()[:2]), ("x",))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    path = saver.save({"w": jax.device_put(jnp.arange(40_000.0), sharding)}, 1)
    assert saver.verify() == 160_000
    flip(path / "0" / "20000", 0)
    with pytest.raises(js.CheckpointError) as caught:
        saver.verify()
    assert str(caught.value).split("\n")[1:] == [
        "  'w' in 0/: the checksum of its part at (20000,) of shape (20000,) differs"
    ]
    (path / "0" / "0").unlink()
    with pytest.raises(js.CheckpointError, match=r"0/0 is gone\n  'w' in 0/: "):
        saver.verify(1)


def test_verify_reads_what_is_no_array_too(saver):
    path = saver.save(TREE, 1) / "jscope.json"
    members = json.loads(path.read_text())
    del members["crc32c"]
    members["values"]["n"]["value"] = "three"
    path.write_bytes(_sealed_json.sealed(members))
    with pytest.raises(js.CheckpointError, match="1 findings:\n  'n': 'three' is not a python int"):
        saver.verify(1)


def test_verify_needs_a_checkpoint_of_jscope(saver, tmp_path):
    with pytest.raises(js.CheckpointNotFoundError, match="There is no checkpoint in"):
        saver.verify()
    with pytest.raises(js.CheckpointNotFoundError, match="There is no step 3 in"):
        saver.verify(3)
    from orbax.checkpoint import v1

    v1.save(tmp_path / "4", {"x": jnp.ones(2)})
    with pytest.raises(js.CheckpointError, match="4 is not a checkpoint of jscope, and has no che"):
        saver.verify(4)


# Progress.


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_drawn_on_a_terminal_only_and_after_a_while(monkeypatch):
    monkeypatch.setattr(_progress, "_DELAY", 0.05)
    monkeypatch.setattr(_progress, "_INTERVAL", 0.01)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with _progress.watching("saving step 3", 1 << 20, lambda: 1 << 19):
        deadline = time.monotonic() + 60  # importing Rich on a busy machine
        while "0.5/1.0 MB" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "saving step 3" in terminal.getvalue()
    assert "0.5/1.0 MB" in terminal.getvalue()
    for stream, nap, total in (
        (Terminal(), 0, 1 << 20),
        (Terminal(), 0.2, 0),
        (io.StringIO(), 0.2, 1 << 20),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        with _progress.watching("saving step 3", total, lambda: 1 << 19):
            time.sleep(nap)
        assert not stream.getvalue()


def test_a_save_on_a_terminal_tells_how_far_it_is(saver, monkeypatch):
    monkeypatch.setattr(_progress, "_DELAY", 0.0)
    monkeypatch.setattr(_progress, "_INTERVAL", 0.01)
    add = _own_packed.Packer.add

    def slow(packer, array):
        time.sleep(0.3)
        return add(packer, array)

    monkeypatch.setattr(_own_packed.Packer, "add", slow)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    saver.save(TREE, 1)
    assert "saving step 1" in terminal.getvalue()
    saver.verify()
    written = len(terminal.getvalue())
    saver.save_async(TREE, 2).result()
    assert len(terminal.getvalue()) == written


# Signals.


def test_nothing_happens_without_a_signal_and_handlers_are_put_back(saver):
    before = signal.getsignal(signal.SIGTERM)
    with saver.saving_on_termination() as leave_if_asked:
        for step in range(3):
            leave_if_asked(TREE, step)
        assert signal.getsignal(signal.SIGTERM) is not before
    assert saver.all_steps() == ()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("signals", [(), (signal.SIGUSR1, signal.SIGUSR2)])
def test_a_signal_saves_and_ends_the_program(tmp_path, signals):
    sent = signals[1] if signals else signal.SIGTERM
    before = signal.getsignal(sent)
    saver = Saver(tmp_path)
    reached = []

    def train():
        options = {"signals": signals} if signals else {}
        with saver, saver.saving_on_termination(**options) as leave_if_asked:
            for step in range(5):
                if step == 3:
                    os.kill(os.getpid(), sent)
                reached.append(step)
                leave_if_asked({"x": jnp.int32(step)}, step, metadata={"why": "asked"})

    with pytest.raises(SystemExit) as caught:
        train()
    assert caught.value.code == 128 + sent
    assert reached == [0, 1, 2, 3]
    saver = Saver(tmp_path)
    assert saver.all_steps() == (3,)
    assert int(saver.restore({"x": jnp.int32(0)})["x"]) == 3
    assert signal.getsignal(sent) is before


def test_a_step_that_is_saved_already_or_on_its_way_is_not_saved_again(tmp_path):
    saver = Saver(tmp_path)
    with saver.saving_on_termination() as leave_if_asked:
        os.kill(os.getpid(), signal.SIGTERM)
        saver.save_async(TREE, 7)
        with pytest.raises(SystemExit):
            leave_if_asked({"other": jnp.ones(1)}, np.int64(7))
    assert js.VarTree(saver.restore(TREE)) == js.VarTree(TREE)


def test_an_earlier_failure_does_not_prevent_the_last_save(tmp_path, monkeypatch):
    saver = Saver(tmp_path)

    def fail(*paths):
        raise OSError(28, "No space left on device")

    def train():
        with saver.saving_on_termination() as leave_if_asked:
            os.kill(os.getpid(), signal.SIGTERM)
            with monkeypatch.context() as patch:
                patch.setattr("jscope.saver._staging.flush_all", fail)
                saver.save_async(TREE, 1)._is_over.wait()
            leave_if_asked(TREE, 2)

    with pytest.raises(js.CheckpointError, match="Step 1 was not saved"):
        train()
    assert saver.all_steps() == (2,)


def test_a_second_signal_does_what_it_did_before(saver):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *arguments: seen.append(arguments[0]))
    try:
        with saver.saving_on_termination() as leave_if_asked:
            os.kill(os.getpid(), signal.SIGTERM)
            assert leave_if_asked.signum == signal.SIGTERM
            assert seen == []
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_only_the_main_thread_hears_signals(saver):
    errors = []

    def elsewhere():
        try:
            with saver.saving_on_termination():
                pass
        except js.CheckpointError as error:
            errors.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert errors == [
        "Signals reach the main thread only: enter saver.saving_on_termination() there."
    ]
