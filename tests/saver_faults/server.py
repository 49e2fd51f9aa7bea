"""A process that has everything imported and no thread yet, and forks.

What may kill a process is tried in one of its own. Importing JAX and Orbax takes seconds, forking
does not. Threads must not be forked, and JAX has none before its first use.

Run as a script with the path of a socket, and with the injector preloaded if faults are wanted.
Each connection is a process: its first line says which function to call, the function talks over
the connection, and the last line is the exit status. See `client`.

Imports: jscope; the functions' modules when they are called.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

from jscope.saver import _orbax

# Longer than anything here takes; who hangs shows its stacks and dies.
SECONDS = 300


class Line:
    """Messages over a connection, a line of JSON each."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._file = connection.makefile("rb")

    def send(self, message: Any) -> None:
        """Send one."""
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> Any:
        """Receive one; None at the end."""
        line = self._file.readline()
        return json.loads(line) if line else None


def main() -> None:
    """Fork for each connection."""
    _orbax.load_orbax()
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"a process with {len(threads)} threads can't be forked"
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, awake, 0], [], [])
            if 0 in ready:
                break  # Nobody writes there: who started this is gone.
            if awake in ready:
                os.read(awake, 4096)
                reap(children)
            if listener in ready:
                connection, _ = listener.accept()
                child = os.fork()
                if not child:
                    be_child(connection)
                children[child] = connection
    for child in children:
        os.kill(child, signal.SIGKILL)


def reap(children: dict[int, socket.socket]) -> None:
    """Send the exit status of each child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            child, status = ended
            with children.pop(child) as connection, contextlib.suppress(OSError):
                Line(connection).send({"status": os.waitstatus_to_exitcode(status)})


def be_child(connection: socket.socket) -> None:
    """Call a function, and exit."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        line = Line(connection)
        order = line.receive()
        line.send({"pid": os.getpid()})
        module = importlib.import_module(f"saver_faults.{order['module']}")
        getattr(module, order["function"])(line, **order["arguments"])
        status = 0
    except SystemExit as ending:
        status = int(ending.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
