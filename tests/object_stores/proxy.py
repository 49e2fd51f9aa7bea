"""A proxy before a server of S3, in a thread: one request goes wrong in a chosen way.

Imports: standard library only.
"""

import contextlib
import dataclasses
import http.client
import threading
from collections.abc import Container, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODES = (
    "killed before",  # from this request on, nothing arrives: as if the process were dead
    "killed after",  # so too, but this one arrives
    "error 500",
    "error 503",
    "dropped before",  # no answer, and it did not arrive
    "dropped after",  # no answer, and it did arrive
    "twice",
    "delayed",
    "again later",  # it arrives once more when all is over
)
DELAY = 0.2
ANY: Container[str] = ("GET", "PUT", "HEAD", "DELETE", "POST")
_BODY = b"<Error><Code>%s</Code><Message>By the proxy.</Message></Error>"


@dataclasses.dataclass
class Message:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Proxy:
    """The proxy, which forwards all until `arm` is called.

    Attributes:
        port: Its port.
        requests: What came since `arm`.
    """

    def __init__(self, port: int, server_port: int):
        self.port = port
        self.requests: list[Message] = []
        self._server_port = server_port
        self._lock = threading.Lock()
        self._mode, self._at, self._is_dead = "", 0, False
        self._methods, self._count = ANY, 0
        self._later: list[Message] = []

    def arm(self, mode: str = "", at: int = 0, methods: Container[str] = ANY) -> None:
        """Let the request of this number, from 1, of some methods go wrong; 0 for none."""
        with self._lock:
            self.requests, self._methods, self._count = [], methods, 0
            self._mode, self._at, self._is_dead = mode, at, False

    def disarm(self) -> bool:
        """Forward all again; whether the request was reached."""
        reached = 0 < self._at <= self._count
        self._mode, self._is_dead = "", False
        later, self._later = self._later, []
        for message in later:
            self.forward(message)
        return reached

    def answer(self, message: Message) -> tuple[int, dict[str, str], bytes] | None:
        """The answer to a request; None to close the connection."""
        with self._lock:
            self.requests.append(message)
            self._count += message.method in self._methods
            is_it = message.method in self._methods and self._count == self._at
            mode = self._mode if is_it else ""
            is_dead = self._is_dead
            self._is_dead = is_dead or mode.startswith("killed")
        if is_dead or mode == "killed before":
            return 403, {}, _BODY % b"AccessDenied"
        if mode in ("error 500", "error 503"):
            return int(mode[-3:]), {}, _BODY % b"SlowDown"
        if mode == "dropped before":
            return None
        if mode == "delayed":
            threading.Event().wait(DELAY)
        answer = self.forward(message)
        if mode == "killed after":
            return 403, {}, _BODY % b"AccessDenied"
        if mode == "dropped after":
            return None
        if mode == "twice":
            self.forward(message)
        if mode == "again later":
            self._later.append(message)
        return answer

    def forward(self, message: Message) -> tuple[int, dict[str, str], bytes]:
        """Send a request to the server."""
        connection = http.client.HTTPConnection("127.0.0.1", self._server_port, timeout=60)
        with contextlib.closing(connection):
            connection.request(message.method, message.path, message.body, message.headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()


@contextlib.contextmanager
def running(server_port: int) -> Iterator[Proxy]:
    """Run a proxy before the server of a port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits for 40 ms

        def log_message(self, *arguments: object) -> None:
            del arguments

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            message = Message(self.command, self.path, dict(self.headers), body)
            answer = proxy.answer(message)
            if answer is None:
                self.close_connection = True
                return
            status, headers, data = answer
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            length = headers.get("Content-Length", len(data)) if self.command == "HEAD" else None
            self.send_header("Content-Length", str(len(data) if length is None else length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _do  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = Proxy(server.server_port, server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
