"""The objects of a bucket, by TensorStore: read by ranges, listed, written, created, deleted.

An object is whole or absent. Listings give names alone, so an object's size takes a request; see
`Bucket.size`. Requests are repeated by TensorStore for some seconds where that may help.
"""

import contextlib
import errno
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from .errors import StoreError, cause_of, is_unreachable, store_error
from .settings import opened_by_settings

if TYPE_CHECKING:
    from tensorstore import Future, KvStore

    _Range: TypeAlias = tuple[memoryview, Future[KvStore.ReadResult]]

# A range is read by requests of so many bytes, several at a time. They are large since some servers
# read the whole object for each.
_PART = 64 << 20
_IN_FLIGHT = 512 << 20
_MOST_READS = 32
# So many objects are written, or deleted, at a time.
_WRITES = 8
_DELETIONS = 32
# Seconds, also of a server that takes the connection and never answers: TensorStore has no limit
# for it. A large object over a slow line may take long; so the first request is one of no bytes.
_FIRST_ANSWER = 30.0
_PATIENCE = 900.0
_SIZE = re.compile(
    r"total size (\d+)|value of size (\d+)|<ActualObjectSize>(\d+)<|bytes (?:\d+-\d+|\*)/(\d+)"
)
_MOST = 1 << 50
_NEAR = 1 << 16
_PROBES = 16
_CREATIONS = 5
_MISSING = b"\x02"  # the generation of what is not there


class Bucket:
    """A bucket of an object store: its objects are read by ranges, listed, written and deleted.

    Args:
        scheme: ``"s3"`` or ``"gs"``.
        name: Its name.
    """

    def __init__(self, scheme: str, name: str):
        self.scheme = scheme
        self.name = name

    def url(self, key: str) -> str:
        """The URL of an object."""
        return f"{self.scheme}://{self.name}/{key}"

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """The bytes of an object, or a range of them; None if there is no such object.

        Raises:
            ValueError: If it ends before the range does.
            StoreError: If the store can't be read.
        """
        chosen = None if start == 0 and stop is None else slice(start, stop)
        store = self._store(key, "read")
        try:
            found = store.read(key, byte_range=chosen).result(timeout=_PATIENCE)
        except Exception as error:
            raise self._error(key, "read", error) from None
        return None if found.state == "missing" else found.value

    def fill(self, key: str, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fill pieces of memory with the bytes of an object, each from its start on; some at once.

        Raises:
            FileNotFoundError: If there is no such object.
            ValueError: If it ends too soon, or is replaced meanwhile.
            StoreError: If the store can't be read.
        """
        self.begin_fill(key, parts)()

    def begin_fill(self, key: str, parts: Iterable[tuple[int, memoryview]]) -> Callable[[], None]:
        """As `fill`, and return how to wait for the bytes.

        They are copied by the thread that waits. Several threads that do it at once take half as
        much processor time again.

        Raises:
            StoreError: If the store can't be read; what is returned raises as `fill`.
        """
        store = self._store(key, "read")
        ranges = _cut_ranges(parts)
        under_way: deque[_Range] = deque()
        generations = set()

        def begin() -> None:
            nbytes = sum(len(into) for into, _ in under_way)
            while len(under_way) < _MOST_READS and nbytes + _PART <= _IN_FLIGHT:
                start, into = next(ranges, (0, None))
                if into is None:
                    break
                chosen = slice(start, start + len(into))
                under_way.append((into, store.read(key, byte_range=chosen)))
                nbytes += len(into)

        def wait() -> None:
            while under_way:
                generations.add(self._receive(key, *under_way.popleft()))
                begin()
            if len(generations) > 1:
                raise ValueError(f"{self.url(key)} was replaced while it was read")

        begin()
        return wait

    def _receive(self, key: str, into: memoryview, future: "Future[KvStore.ReadResult]") -> bytes:
        """Wait for a range of an object, and copy it; return the object's generation."""
        try:
            found = future.result(timeout=_PATIENCE)
        except Exception as error:
            raise self._error(key, "read", error) from None
        if found.state == "missing":
            raise FileNotFoundError(errno.ENOENT, "No such object", self.url(key))
        into[:] = found.value
        return found.stamp.generation

    def size(self, key: str) -> int | None:
        """The size of an object, None if there is none; one request, of many servers.

        Reading beyond its end is an error that has the size. Where it hasn't, the end is looked
        for: with some hundred requests of one byte.

        Raises:
            StoreError: If the store can't be read.
        """
        found, size = self._probe(key, _MOST, _MOST + 1)
        if found is False:
            return None
        return self._search(key) if size is None else size

    def has_size(self, key: str, size: int) -> bool | None:
        """Whether an object has so many bytes, None if there is none; one request.

        Raises:
            StoreError: If the store can't be read.
        """
        found, exact = self._probe(key, max(0, size - 1), size + 1)
        if found is False:
            return None
        return exact == size

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return self.read(key, 0, 0) is not None

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with a prefix, sorted.

        Raises:
            StoreError: If the bucket can't be listed.
        """
        import tensorstore

        stop = prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""
        chosen = tensorstore.KvStore.KeyRange(prefix, stop)
        store = self._store(prefix, "listed")
        try:
            found = store.list(chosen).result(timeout=_PATIENCE)
        except Exception as error:
            raise self._error(prefix, "listed", error) from None
        keys = [key.decode("utf-8", "surrogateescape") for key in found]
        # A server that knows nothing of ranges of keys lists all.
        return sorted(key for key in keys if key.startswith(prefix))

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; whether this call has written it.

        A request whose answer is lost is repeated, and told that the object is there: by itself.
        So two that create the same bytes may both be told that they did.

        Raises:
            StoreError: If it can't be written.
        """
        store = self._store(key, "written")
        for _ in range(_CREATIONS):
            try:
                stamp = store.write(key, data, if_equal=_MISSING).result(timeout=_PATIENCE)
            except Exception as error:
                raise self._error(key, "written", error) from None
            if stamp.generation:
                return True
            found = self.read(key)
            if found is not None:
                return found == data
            self.keys(key)  # what isn't there may be the bucket; or another has removed it
        raise StoreError(
            f"{self.url(key)} can't be written: it is created and removed all the time."
        )

    def write(self, key: str, data: bytes) -> None:
        """Write an object, also in place of another.

        Raises:
            StoreError: If it can't be written.
        """
        self.write_all([(key, data)])

    def write_all(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Write objects, some at a time.

        Raises:
            StoreError: If one can't be written; others may be.
        """
        self.begin_all(objects)()

    def begin_all(self, objects: Iterable[tuple[str, bytes]]) -> Callable[[], None]:
        """As `write_all`, and return how to wait for the last ones.

        Raises:
            StoreError: As `write_all`; so does what is returned.
        """
        return self._begin("written", objects, _WRITES)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are none.

        Raises:
            StoreError: If one can't be deleted; others may be.
        """
        self._begin("deleted", ((key, None) for key in keys), _DELETIONS)()

    def _begin(
        self, operation: str, items: Iterable[tuple[str, bytes | None]], at_once: int
    ) -> Callable[[], None]:
        under_way: deque[tuple[str, Future[object]]] = deque()
        errors: list[Exception] = []

        def wait() -> None:
            key, future = under_way.popleft()
            try:
                future.result(timeout=_PATIENCE)
            except Exception as error:
                errors.append(self._error(key, operation, error))

        def finish() -> None:
            while under_way:
                wait()
            if errors:
                raise errors[0]

        try:
            for key, data in items:
                if len(under_way) >= at_once:
                    wait()
                if errors:
                    break
                under_way.append((key, self._store(key, operation).write(key, data)))
        except BaseException:
            with contextlib.suppress(Exception):
                finish()
            raise
        if errors:
            finish()
        return finish

    def _probe(self, key: str, start: int, stop: int) -> tuple[bool | None, int | None]:
        """Read a range that may end too late: whether it is there whole, and the size if told.

        True if it is, None if it isn't, False if there is no such object.
        """
        try:
            store = self._store(key, "read")
            found = store.read(key, byte_range=slice(start, stop)).result(timeout=_PATIENCE)
        except ValueError as error:
            size = _size_in_error(error)
            if size is None and not _is_out_of_range(error):
                raise self._error(key, "read", error) from None
            return None, size
        except Exception as error:
            raise self._error(key, "read", error) from None
        return found.state != "missing", None

    def _search(self, key: str) -> int:
        """The size of an object, by reading bytes: those before its end are there."""
        low, high = 0, _MOST  # bytes below the one are there, from the other on not
        marks = [(1 << bits) - 1 for bits in range(1, 50)]
        while low < high:
            if low and high - low <= _NEAR:
                _, size = self._probe(key, low - 1, high + 1)
                if size is not None:
                    return size
            store = self._store(key, "read")
            chosen = [at for at in marks if low <= at < high]
            futures = [(at, store.read(key, byte_range=slice(at, at + 1))) for at in chosen]
            for at, future in futures:
                try:
                    future.result(timeout=_PATIENCE)
                    low = max(low, at + 1)
                except Exception as error:
                    if _size_in_error(error) is None and not _is_out_of_range(error):
                        raise self._error(key, "read", error) from None
                    high = min(high, at)
            step = max(1, (high - low) // _PROBES)
            marks = list(range(low, high, step))
        return low

    def _store(self, key: str, operation: str) -> "KvStore":
        try:
            found = opened_by_settings(self.scheme, self.name)
            if not found.has_answered:
                _wait_for_an_answer(found.store, key)
                found.has_answered = True
            return found.store
        except Exception as error:
            raise self._error(key, operation, error) from None

    def _error(self, key: str, operation: str, error: Exception) -> Exception:
        if isinstance(error, StoreError):
            return error
        if _is_out_of_range(error):
            name = key.rpartition("/")[2]
            return ValueError(f"{name} ends too soon: {cause_of(str(error))}")
        return store_error(self.url(key), operation, error)


def _wait_for_an_answer(store: "KvStore", key: str) -> None:
    """Raise if no answer comes from the store; one that refuses is an answer too."""
    try:
        store.read(key or "-", byte_range=slice(0, 0)).result(timeout=_FIRST_ANSWER)
    except ValueError as error:
        if is_unreachable(error):
            raise


def _size_in_error(error: Exception) -> int | None:
    """The size of an object, if the error of a request for too many of its bytes has it."""
    found = _SIZE.search(str(error))
    return None if found is None else int(next(filter(None, found.groups())))


def _is_out_of_range(error: Exception) -> bool:
    """Whether the error of a request says that the object ends too soon."""
    text = str(error)
    return text.startswith("OUT_OF_RANGE") or "Unexpected Content-Range" in text


def _cut_ranges(parts: Iterable[tuple[int, memoryview]]) -> Iterator[tuple[int, memoryview]]:
    """Cut what is read of a bucket's object into ranges of at most `_PART` bytes, one a request."""
    for start, into in parts:
        for at in range(0, len(into), _PART):
            yield start + at, into[at : at + _PART]
