"""A server that is there, and acknowledges what it is sent, and never answers."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from workers.dev import processes
from workers.dev.servers import Postgres, Server


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Stops every process of a server as SIGSTOP does, as long as the block runs."""
    pids = [server.pid] if server.pid else []
    if isinstance(server, Postgres):
        pids = processes.standing_in(server.directory, "postgres")
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            processes.send(pid, signal.SIGCONT)
