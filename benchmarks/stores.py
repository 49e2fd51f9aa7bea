"""Saving to and restoring from S3, beside requests for the same bytes: by moto's server, on this
machine.

* ``save``: small arrays are compared with one PUT of all their bytes, arrays of more than 4 MB
  with one PUT of each, all under way at once. The bytes are there before the clock runs.
* ``restore``: the same with GETs, until the bytes are in memory; and until they are in jax.Arrays
  too, which jscope's restore ends with.
* ``CPU``: the seconds of this process alone, for each of them.
* ``request``: one small request, which the server takes most of the time for.

The server is one process of Python, and serves one request at a time. It reads the whole object for
each range of it. Its requests are counted, and a note has those of a save and of a restore.

Imports: `_report`, `_settings`, `_timing`, `saving`, the tests' server, jscope, JAX and NumPy.
"""

import contextlib
import importlib.util
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from _report import Part, Row, Target, interval_target, rows_of
from _settings import Settings
from _timing import in_turn
from saving import arrays, like, size_text

import jscope as js

OURS, PUT, GET, PLACED = "jscope", "PUT", "GET", "GET, to jax.Arrays"
# Arrays of up to so many bytes are packed by jscope.
_PACKED = 4 << 20
_TESTS = Path(__file__).parent.parent / "tests"
_KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


def measure(settings: Settings) -> Part:
    """Everything, by a server that is started for it."""
    title = "Saving to and restoring from S3"
    if importlib.util.find_spec("moto") is None:
        return Part(title, [], [], ["Not measured: moto is not installed (dependency group test)."])
    rows: list[Row] = []
    targets: list[Target] = []
    notes: list[str] = []
    with _server() as server:
        rows += _requests(server, settings.saving_rounds)
        for count, size in settings.saved_arrays:
            bench = _Bench(server, count, size, 3 * settings.saving_rounds)
            rows += [*bench.saves(), *bench.restores()]
            targets += bench.targets(rows)
            notes.append(bench.note())
    return Part(title, rows, targets, notes)


class _Server:
    """The server: TensorStore's handle of a bucket, and how many requests there were."""

    def __init__(self, s3: Any):
        import tensorstore

        self.s3 = s3
        self.store = tensorstore.KvStore.open(
            {
                "driver": "s3",
                "bucket": s3.bucket,
                "endpoint": f"http://127.0.0.1:{s3.port}",
                "aws_region": "us-east-1",
                "aws_credentials": {"type": "environment"},
            }
        ).result()

    def count(self, work: Callable[[], object]) -> int:
        """The requests of something that is done once."""
        self.s3.requests()
        work()
        return len(self.s3.requests())

    def clear(self) -> None:
        """Delete all objects but those that are restored."""
        import tensorstore

        key_range = tensorstore.KvStore.KeyRange("new/", "new0")
        self.store.delete_range(key_range).result()


@contextlib.contextmanager
def _server() -> Iterator[_Server]:
    sys.path.append(str(_TESTS))
    from object_stores import servers  # type: ignore[import-not-found, unused-ignore]

    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="stores-") as folder:
        log = Path(folder, "requests")
        log.touch()
        try:
            with servers.running("s3_server.py", log) as port:
                os.environ.update(_KEYS, AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{port}")
                yield _Server(servers.S3(port, log))
        finally:
            os.environ.clear()
            os.environ.update(before)


def _requests(server: _Server, rounds: int) -> list[Row]:
    store, names = server.store, itertools.count()
    store.write("new/there", b"x" * 100).result()
    calls = {
        "PUT": lambda _: store.write("new/there", b"x" * 100).result(),
        "PUT unless it exists": lambda _: store.write(
            f"new/{next(names)}", b"x" * 100, if_equal=b"\x02"
        ).result(),
        "GET": lambda _: store.read("new/there").result(),
        "listing": lambda _: store.list().result(),
        "DELETE": lambda _: store.write("new/absent", None).result(),
    }
    found = rows_of("request", "100 bytes", in_turn(calls, 5 * rounds))
    server.clear()
    return found


class _Bench:
    """Saves and restores of arrays of one size."""

    def __init__(self, server: _Server, count: int, size: int, rounds: int):
        self._server = server
        self._rounds = rounds
        self._is_large = size > _PACKED
        self._size = size_text(count, size)
        self._count = count
        self._tree = arrays(count, size)
        self._target = like(self._tree)
        values = [np.asarray(array) for array in self._tree.values()]
        whole = values if self._is_large else [np.concatenate(values)]
        self._objects = {f"{i}": data.tobytes() for i, data in enumerate(whole)}
        self._steps = itertools.count()
        self._saver = js.Saver(server.s3.url("new/run"), max_to_keep=None)
        self._restorer = js.Saver(server.s3.url(f"kept/{count}-{size}"))

    def saves(self) -> list[Row]:
        """The rows of saves."""
        calls = {PUT: self._put, OURS: self._save}
        self._save_requests = self._server.count(self._save)
        self._server.clear()
        return self._timed("save", calls, PUT)

    def restores(self) -> list[Row]:
        """The rows of restores."""
        self._put("kept")
        self._restorer.save(self._tree, 0)
        self._restore_requests = self._server.count(self._restore)
        calls = {GET: self._get, PLACED: self._get_placed, OURS: self._restore}
        return self._timed("restore", calls, GET, PLACED)

    def targets(self, rows: list[Row]) -> list[Target]:
        """What is to be reached."""
        most = 4 * self._count + 15 if self._is_large else 20
        claim = f"{OURS}, requests"
        return [
            interval_target(rows, "save", self._size, OURS, PUT, "<=", 1.3),
            interval_target(rows, "restore", self._size, OURS, GET, "<=", 1.3),
            Target("save", self._size, claim, "<=", most, self._save_requests),
        ]

    def note(self) -> str:
        """How many requests there were."""
        return (
            f"Requests for {self._size}: {self._save_requests} of a save, "
            f"{self._restore_requests} of a restore; {len(self._objects)} of PUT and of GET."
        )

    def _timed(
        self, benchmark: str, calls: Mapping[str, Callable[[], object]], *against: str
    ) -> list[Row]:
        cpu: dict[str, list[float]] = {name: [] for name in calls}

        def run(name: str, _: int) -> None:
            begin = time.process_time()
            calls[name]()
            cpu[name].append(time.process_time() - begin)

        contenders = {name: (lambda n, name=name: run(name, n)) for name in calls}
        samples = in_turn(contenders, self._rounds, after=self._server.clear)
        # The first of each fills caches.
        first = {name: seconds[-self._rounds :] for name, seconds in cpu.items()}
        return [
            *rows_of(benchmark, self._size, samples, *against),
            *rows_of(f"{benchmark}, CPU", self._size, first, *against),
        ]

    def _put(self, folder: str = "new") -> None:
        begun = [
            self._server.store.write(f"{folder}/{name}", data)
            for name, data in self._objects.items()
        ]
        for future in begun:
            future.result()

    def _save(self) -> None:
        self._saver.save(self._tree, next(self._steps))

    def _get(self) -> list[bytes]:
        begun = [self._server.store.read(f"kept/{name}") for name in self._objects]
        return [future.result().value for future in begun]

    def _get_placed(self) -> list[jax.Array]:
        found = [np.frombuffer(data, np.float32) for data in self._get()]
        if not self._is_large:
            found = np.split(found[0], self._count)
        return jax.block_until_ready(jax.device_put(found))

    def _restore(self) -> Any:
        return jax.block_until_ready(self._restorer.restore(self._target))
