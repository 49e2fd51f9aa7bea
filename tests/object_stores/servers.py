"""Starts the servers, each in a process of its own, and talks to them without jscope."""

import contextlib
import dataclasses
import http.client
import itertools
import subprocess
import sys
import urllib.parse
from pathlib import Path

_numbers = itertools.count()
# The server compares no signatures, but lets nobody replace an object without one.
_SIGNED = (
    "AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, "
    "Signature=0"
)


@dataclasses.dataclass
class Request:
    """A request that a server got.

    Attributes:
        first: Its first byte, if it was of a range.
        nbytes: How many bytes of it, if it was of a range.
    """

    method: str
    path: str
    query: str
    first: int | None = None
    nbytes: int | None = None


class S3:
    """A running server.

    Attributes:
        port: Its port, on this machine.
        bucket: A bucket that only this test has.
    """

    def __init__(self, port, log):
        self.port = port
        self._log = log
        self._seen = 0
        self._was_asked = False
        self.bucket = f"bucket-{next(_numbers)}"
        self.fail()
        self._put(f"/{self.bucket}")

    def url(self, key=""):
        """The URL of a key."""
        return f"s3://{self.bucket}/{key}"

    def put(self, directory, key=""):
        """Upload the files of a directory, below a key."""
        for path in sorted(Path(directory).rglob("*")):
            if path.is_file():
                name = path.relative_to(directory).as_posix()
                self.put_object(f"{key}/{name}" if key else name, path.read_bytes())

    def put_object(self, key, data):
        """Upload an object."""
        self._put(f"/{self.bucket}/{key}", data)
        self.requests()

    def fail(self, **failures):
        """Make requests fail: from their method to a status, 0 for no answer, and how often."""
        lines = [f"{method} {status} {n}" for method, (status, n) in failures.items()]
        self._put("/-/failures", "\n".join(lines).encode())

    def requests(self):
        """The requests since the last call."""
        lines = self._log.read_text().splitlines()
        new, self._seen = lines[self._seen :], len(lines)
        found = [_request(*line.split("\t")) for line in new]
        # The first request to a bucket waits for an answer of no bytes.
        return found[1:] if found and found[0].method == "HEAD" and self._is_new() else found

    def _is_new(self):
        was_new, self._was_asked = not self._was_asked, True
        return was_new

    def _put(self, path, data=b""):
        _send(self.port, "PUT", path, data)


def _request(method, path, query, chosen):
    first, _, last = chosen.removeprefix("bytes=").partition("-")
    if not chosen:
        return Request(method, path, query)
    if not first:  # the last bytes
        return Request(method, path, query, None, int(last))
    return Request(method, path, query, int(first), int(last) - int(first) + 1)


class Gcs:
    """A running emulator of Google Cloud Storage; its bucket is ``bucket``.

    Attributes:
        port: Its port, on this machine.
        prefix: What only this test's keys begin with.
    """

    def __init__(self, port):
        self.port = port
        self.prefix = f"test-{next(_numbers)}"

    def url(self, key=""):
        """The URL of a key."""
        return f"gs://bucket/{self.prefix}/{key}".rstrip("/")

    def put(self, directory, key=""):
        """Upload the files of a directory, below a key."""
        for path in sorted(Path(directory).rglob("*")):
            if path.is_file() and path.stat().st_size:  # the emulator takes no empty ones
                name = f"{self.prefix}/{key}/{path.relative_to(directory).as_posix()}"
                query = urllib.parse.urlencode({"uploadType": "media", "name": name})
                url = f"/upload/storage/v1/b/bucket/o?{query}"
                _send(self.port, "POST", url, path.read_bytes())


def _send(port, method, path, data):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, data, {"Authorization": _SIGNED})
        status = connection.getresponse().status
    assert status == 200, status


@contextlib.contextmanager
def running(program, *arguments):
    """Run one of the servers; its port."""
    path = Path(__file__).parent / program
    command = [sys.executable, "-W", "ignore", str(path), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()
