"""A server that is there, and acknowledges what it is sent, and never answers."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from workers.dev import processes
from workers.dev.servers import Server


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Stops every process of a server as SIGSTOP does, as long as the block runs."""
    stopped = processes.find(server.owns)
    assert stopped
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()
