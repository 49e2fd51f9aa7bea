"""S3 in a process of its own: moto's server, which records its requests, and can be told to fail.

Run as a program with the path of a file: it prints its port, and appends a line to the file for
each request: its method, path, query and range, separated by tabs.

``PUT /-/failures`` with lines such as ``GET 503 2`` makes the next two such requests fail; the
status 0 closes the connection without an answer.
"""

import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class _Recorded:
    """An application that records requests, and fails some.

    Args:
        application: What answers them.
        log: The file.
    """

    def __init__(self, application, log):
        self._application = application
        self._log = log
        self._lock = threading.Lock()
        self._failures = {}

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/-/failures":
            length = int(environ.get("CONTENT_LENGTH") or 0)
            lines = environ["wsgi.input"].read(length).decode().splitlines()
            self._failures = {m: [int(status), int(n)] for m, status, n in map(str.split, lines)}
            start_response("200 OK", [])
            return [b""]
        with self._lock:
            row = (method, path, environ["QUERY_STRING"], environ.get("HTTP_RANGE", ""))
            print(*row, sep="\t", file=self._log, flush=True)
            failure = self._failures.get(method)
            is_failing = failure is not None and failure[1] > 0
            if is_failing:
                failure[1] -= 1
        if not is_failing:
            return self._application(environ, start_response)
        if not failure[0]:
            environ["werkzeug.socket"].close()
        body = _DENIED if failure[0] == 403 else _BUSY
        start_response(f"{failure[0]} Failure", [("Content-Length", str(len(body)))])
        return [body]


class _Silent(WSGIRequestHandler):
    def log(self, *arguments):
        del arguments


def main(path):
    with open(path, "a") as log:
        application = _Recorded(DomainDispatcherApplication(create_backend_app), log)
        server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Silent)
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
