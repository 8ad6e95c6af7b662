"""Processes that compute password hashes for a web process, with a low priority: reads go first.

A thread of the web process must not have a low priority: it would wait for a core while it has Python's lock
(decision 34).
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import structlog
from gevent import socket
from gevent.lock import BoundedSemaphore

from api.http import admission

log = structlog.get_logger(__name__)

# -I finds the installed packages but no module of ours; the empty environment below holds no secret.
_COMMAND = [sys.executable, "-I", str(Path(__file__).with_name("hashing.py"))]
# How long a request waits for a free process, and then for its answer. A hash of cost 10 takes 50 ms of a
# core, one of cost 16 three seconds, and a low priority gets it late on a busy machine. A proxy waits for
# 30 seconds.
QUEUE_S, DEADLINE_S = 5.0, 18.0


class CannotHash(admission.Busy):
    """The service cannot process passwords at the moment. Try again later."""


class HashingProcesses:
    """At most `count` processes. Each starts when it is first needed, and serves one request at a time."""

    def __init__(self, count: int) -> None:
        self._free = BoundedSemaphore(count)
        self._idle: list[_Process] = []

    def hash(self, password: bytes, salt: bytes) -> bytes:
        """Returns the hash by bcrypt. Raises ValueError for a salt of another kind, and CannotHash.

        The current request gives its connection and its slot back meanwhile: during many sign-ins, other
        requests still execute.
        """
        request = f"{password.hex()} {salt.hex()}\n".encode()
        queue = admission.slot(self._free, wait=admission.waiting(QUEUE_S, CannotHash))
        with admission.without_connection(), queue:
            try:
                # A process that was killed is replaced. Another idle one may have been killed, too.
                answer = self._ask(request, self._idle.pop() if self._idle else None) or self._ask(request)
            except OSError as error:
                log.error("a password hash was not computed", error=repr(error))
                raise CannotHash from error
        if not answer:
            log.error("a password hash was not computed", error="two processes ended")
            raise CannotHash
        if answer == b"\n":
            raise ValueError("not computed")
        return answer[:-1]

    def _ask(self, request: bytes, idle: "_Process | None" = None) -> bytes:
        """Returns the line that a process answers; nothing if the process has ended.

        Starts a process unless an `idle` one is given. Raises OSError if the process cannot be started, or
        does not answer in time.
        """
        process = idle or _Process()
        answer = b""
        try:
            answer = process.ask(request)
        finally:
            # Also where the greenlet is killed: no later request may read the answer to this one.
            if answer:
                self._idle.append(process)
            else:
                process.kill()
        return answer


class _Process:
    """One process, and the socket that is its standard input and output."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        try:
            os.set_blocking(theirs.fileno(), True)
            # In a process group of its own, which Ctrl-C does not reach. The session must stay the same: the
            # kernel may compare priorities only within a session.
            self._process = subprocess.Popen(_COMMAND, stdin=theirs, stdout=theirs, env={}, process_group=0)
        except BaseException:
            # A process that has started nevertheless ends with its standard input.
            self._socket.close()
            raise
        finally:
            theirs.close()

    def ask(self, request: bytes) -> bytes:
        """Returns the line that the process answers; nothing if it has ended. Raises TimeoutError."""
        answer = bytearray()
        self._socket.settimeout(DEADLINE_S)
        with suppress(ConnectionError):
            self._socket.sendall(request)
            while received := self._socket.recv(1024):
                answer.extend(received)
                if answer.endswith(b"\n"):
                    return bytes(answer)
        return b""

    def kill(self) -> None:
        """Kills the process and waits for its end."""
        self._socket.close()
        self._process.kill()
        status = self._process.wait()
        log.warning("a process for password hashes has ended", status=status)
