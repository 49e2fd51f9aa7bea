"""Starting the server, and processes through it.

Imports: `injector`, `server` (run as a script).
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import injector
from .server import Line


class Process:
    """A process that calls one function of this package.

    Attributes:
        pid: Its number.
        status: Its exit status as `subprocess` has it, or None as long as it is not known here.
    """

    pid: int
    status: int | None = None

    def __init__(self, address: str, function: str, arguments: dict[str, Any]):
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(400)
        self._connection.connect(address)
        self._line = Line(self._connection)
        module, function = function.split(":")
        self.send({"module": module, "function": function, "arguments": arguments})
        self.pid = self._line.receive()["pid"]

    def send(self, message: Any) -> None:
        """Send it a message."""
        self._line.send(message)

    def receive(self) -> Any:
        """Its next message; None once it has ended."""
        if self.status is not None:
            return None
        message = self._line.receive()
        if message is None:
            raise EOFError("the server is gone")
        if isinstance(message, dict) and "status" in message:
            self.status = message["status"]
            self._connection.close()
            return None
        return message

    def wait(self) -> int:
        """Its exit status; messages that it still sends are dropped."""
        self.last()
        assert self.status is not None
        return self.status

    def last(self) -> Any:
        """Its last message, when it has ended; None if there was none."""
        last = None
        while (message := self.receive()) is not None:
            last = message
        return last

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, if it lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Server:
    """A server process.

    Args:
        errors: Where its complaints and its children's go.
        preload: Whether with the injector.
    """

    def __init__(self, errors: Path, *, preload: bool = True):
        tests = Path(__file__).parent.parent
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent), *sys.path]),
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # each process compiles, and saves are tested
            "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
            "OPENBLAS_NUM_THREADS": "1",  # else NumPy begins with threads
        }
        if preload:
            environment["LD_PRELOAD"] = str(injector.build())
        self._folder = tempfile.TemporaryDirectory(prefix="jscope-")
        self._address = f"{self._folder.name}/socket"
        script = [sys.executable, "-W", "error", Path(__file__).with_name("server.py")]
        with errors.open("ab") as stream:
            self._process = subprocess.Popen(
                [*script, self._address],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", errors.read_text()

    def start(self, function: str, **arguments: Any) -> Process:
        """Call ``"module:function"`` of this package in a new process."""
        return Process(self._address, function, arguments)

    def close(self) -> None:
        """End the server, and with it its children."""
        self._process.communicate()
        self._folder.cleanup()


@contextlib.contextmanager
def serving(errors: Path, *, preload: bool = True) -> Iterator[Server]:
    """A server as long as the body runs."""
    server = Server(errors, preload=preload)
    try:
        yield server
    finally:
        server.close()
