"""Google Cloud Storage in a process of its own: an emulator, which doesn't check conditions.

Run as a program: it prints its port. It has a bucket ``bucket``.
"""

import logging
import socket

from gcp_storage_emulator.server import create_server


def main():
    logging.disable()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    print(port, flush=True)
    server.run()


if __name__ == "__main__":
    main()
