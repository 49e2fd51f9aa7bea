"""Asynchronous saves, threads and loops: what is in flight, who waits, who hears of a failure."""

import asyncio
import gc
import operator
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope._stores import disk
from jscope.saver import Saver, _async_save


def failing(*arguments):
    raise OSError(28, "No space left on device")


# Async.


def test_donated_deleted_and_changed_arrays_are_saved_as_they_were(saver):
    size = 1 << 18
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    expected = {name: np.arange(size, dtype=np.float32) + i for i, name in enumerate("abcd")}
    for step in range(5):
        array = expected["c"].copy()
        small = (np.arange(size) % 16).astype("uint4")
        values = {
            "a": jnp.array(expected["a"]),
            "b": jnp.array(expected["b"]),
            "c": array,
            "d": jnp.array(expected["d"]),
            "e": small,
        }
        saver.save_async(values, step)
        donated = add(values["a"])
        values["b"].delete()
        array[:] = -1
        small[:] = np.zeros((), small.dtype)
        jax.block_until_ready(add(add(donated)))
        target = {name: jax.ShapeDtypeStruct((size,), jnp.float32) for name in "abcd"}
        restored = saver.restore(target | {"e": small}, step)
        for name in "abcd":
            np.testing.assert_array_equal(restored[name], expected[name])
        np.testing.assert_array_equal(
            np.asarray(restored["e"]).astype(np.int32), np.arange(size) % 16
        )


def test_every_call_waits_for_the_save_in_flight(saver, tree, monkeypatch):
    flush = disk.flush_all
    turn = threading.Event()

    def slow(*paths):
        assert turn.wait(60)
        flush(*paths)

    monkeypatch.setattr("jscope.saver._staging.flush_all", slow)
    calls = [
        lambda: saver.save(tree, 100),
        lambda: saver.save_async(tree, 200).result(),
        lambda: saver.restore(tree),
        saver.latest_step,
        saver.all_steps,
        saver.wait,
    ]
    for step, call in enumerate(calls):
        turn.clear()
        handle = saver.save_async(tree, step)
        assert "under way" in repr(handle)
        assert not handle.path.exists()
        threading.Timer(0.05, turn.set).start()
        call()
        assert handle.path.exists()
        assert handle.result() == handle.path == saver.directory / str(step)
        assert repr(handle) == f"PendingSave('{handle.path}', complete)"


CALLS = {
    "save": lambda saver, tree: saver.save(tree, 2),
    "save_async": lambda saver, tree: saver.save_async(tree, 2),
    "restore": lambda saver, tree: saver.restore(tree),
    "latest_step": lambda saver, tree: saver.latest_step(),
    "all_steps": lambda saver, tree: saver.all_steps(),
    "wait": lambda saver, tree: saver.wait(),
    "close": lambda saver, tree: saver.close(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_failed_async_save_is_raised_once_by_the_next_call(tmp_path, tree, monkeypatch, call):
    saver = Saver(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("jscope.saver._staging.flush_all", failing)
        handle = saver.save_async(tree, 1)
        with pytest.raises(js.CheckpointError) as caught:
            CALLS[call](saver, tree)
    assert str(caught.value).startswith(f"Step 1 was not saved to {tmp_path}: OSError")
    assert caught.value.__notes__ == [
        "This is the failure of an earlier save_async, raised by the first call after it, which "
        "did nothing else."
    ]
    assert repr(handle) == f"PendingSave('{tmp_path}/1', failed)"
    assert os.listdir(tmp_path) == []
    with pytest.raises(js.CheckpointError, match="Step 1 was not saved"):
        handle.result()
    if call != "close":
        saver.save(tree, 1)
        assert saver.restore(tree) == tree
    saver.close()


@pytest.mark.parametrize("ask", ["result", "wait"])
def test_a_failure_seen_on_the_handle_is_not_raised_again_by_the_saver(
    saver, tree, monkeypatch, ask
):
    with monkeypatch.context() as patch:
        patch.setattr("jscope.saver._staging.flush_all", failing)
        handle = saver.save_async(tree, 1)
        with pytest.raises(js.CheckpointError, match="Step 1 was not saved"):
            operator.methodcaller(ask)(handle)
    assert saver.latest_step() is None
    assert handle not in _async_save._unseen


def test_with_closes_and_raises_the_failure(tmp_path, tree, monkeypatch):
    monkeypatch.setattr("jscope.saver._staging.flush_all", failing)
    with pytest.raises(js.CheckpointError, match="Step 1 was not saved"), Saver(tmp_path) as saver:
        saver.save_async(tree, 1)


def test_with_does_not_hide_the_error_of_its_body(tmp_path, tree, monkeypatch):
    monkeypatch.setattr("jscope.saver._staging.flush_all", failing)
    error = ZeroDivisionError()

    def body(saver):
        saver.save_async(tree, 1)
        raise error

    with pytest.raises(ZeroDivisionError) as caught, Saver(tmp_path) as saver:
        body(saver)
    (note,) = caught.value.__notes__
    assert note.startswith("Moreover, an asynchronous save failed. Step 1 was not saved to")


def test_a_closed_saver_refuses_all_but_close(tmp_path, tree):
    with Saver(tmp_path) as saver:
        saver.save_async(tree, 1)
    assert (tmp_path / "1").exists()
    saver.close()
    for name, call in CALLS.items():
        if name != "close":
            with pytest.raises(js.CheckpointError, match="is closed"):
                call(saver, tree)


def test_where_no_thread_can_start_the_save_is_finished_at_once(tmp_path, tree, monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("jscope"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Saver(tmp_path) as saver:
        handle = saver.save_async(tree, 1)
        assert repr(handle) == f"PendingSave('{tmp_path}/1', complete)"
        assert saver.restore(tree) == tree


def test_when_the_program_is_over_already_the_save_is_finished_at_once(tmp_path, tree, monkeypatch):
    def too_late(hook):
        raise RuntimeError("can't register atexit after shutdown")

    _async_save._see_all_at_exit.cache_clear()
    monkeypatch.setattr(threading, "_register_atexit", too_late)
    handle = Saver(tmp_path).save_async(tree, 1)
    assert repr(handle) == f"PendingSave('{tmp_path}/1', complete)"
    monkeypatch.undo()
    _async_save._see_all_at_exit()


def test_a_saver_that_is_gone_still_completes_its_save(tmp_path, tree):
    handle = Saver(tmp_path).save_async(tree, 1)
    path = handle.path
    del handle
    gc.collect()
    for pending in list(_async_save._unseen):
        pending.wait()
    assert Saver(path.parent).restore(tree) == tree


def test_failures_that_nobody_saw_are_printed_at_the_end(tmp_path, tree, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("jscope.saver._staging.flush_all", failing)
        Saver(tmp_path / "a").save_async(tree, 1)._is_over.wait()
    Saver(tmp_path / "b").save_async(tree, 1)
    _async_save._see_all()
    printed = capsys.readouterr().err
    assert printed.count("its error was never retrieved") == 1
    assert f"jscope: save_async to {tmp_path}/a/1 failed; its error was never retrieved:" in printed
    assert f"CheckpointError: Step 1 was not saved to {tmp_path}/a: OSError" in printed
    assert Saver(tmp_path / "b").all_steps() == (1,)


# Threads and loops.


def test_savers_of_other_directories_work_at_once(tmp_path):
    def work(i):
        try:
            with Saver(tmp_path / str(i)) as saver:
                for step in range(3):
                    saver.save_async({"x": jnp.full(1000, i * 10 + step)}, step)
                restored = saver.restore({"x": jnp.zeros(1000, jnp.int32)})["x"]
                results.append((i, int(restored[0])))
        except BaseException as error:
            results.append(error)

    results = []
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(i, i * 10 + 2) for i in range(4)]


def test_threads_take_turns_with_one_saver(tmp_path):
    saver = Saver(tmp_path, max_to_keep=None)

    def work(step):
        saver.save_async({"x": jnp.int32(step)}, step)

    threads = [threading.Thread(target=work, args=(step,)) for step in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert saver.all_steps() == tuple(range(6))
    for step in range(6):
        assert int(saver.restore({"x": jnp.int32(0)}, step)["x"]) == step


def test_it_works_inside_a_running_loop(saver, tree):
    async def notebook():
        saver.save(tree, 1)
        saver.save_async(tree, 2).wait()
        return saver.restore(tree)

    assert asyncio.run(notebook()) == tree
