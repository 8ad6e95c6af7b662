"""A server that is there, and acknowledges what it is sent, and never answers."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from workers.dev import processes
from workers.dev.servers import Server


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Stops every process of a server as SIGSTOP does, as long as the block runs."""
    stopped: list[psutil.Process] = []
    try:
        # Until there is no other: one may have been started meanwhile, and one that was found may have ended.
        while found := [process for process in processes.find(server.owns) if process not in stopped]:
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            stopped += found
        assert stopped
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()
