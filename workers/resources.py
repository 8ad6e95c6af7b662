"""Limits what a worker takes of its machine: web processes compute first, and threads share memory."""

import ctypes
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

# A web process on the same machine gets ten times the weight of a worker: a caller waits for the web process,
# and a worker that is late does more jobs in one transaction.
NICENESS = 10
# Where Linux groups sessions, it weighs a session as a whole. It refuses two changes within 0.1 s.
_SESSION_NICENESS = Path("/proc/self/autogroup")
_TRIES = 20
_PAUSE_S = 0.1
# A parameter of glibc's mallopt(3): how many arenas the threads share.
_M_ARENA_MAX = -8
_ARENAS = 2


def lower_priority() -> None:
    """Lets web processes on this machine compute first."""
    os.nice(NICENESS)
    # A session with other processes is left alone: a web process may be among them.
    if os.getsid(0) == os.getpid():
        threading.Thread(target=_lower_session, name="session", daemon=True).start()


def _lower_session() -> None:
    for _ in range(_TRIES):
        try:
            _SESSION_NICENESS.write_text(str(NICENESS))
            return
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        except OSError:  # Another system, or a kernel that groups no sessions.
            return


def limit_memory() -> None:
    """Lets all threads allocate from two arenas.

    With one for each thread, a worker keeps ten megabytes more than it uses.
    """
    with suppress(AttributeError):  # Another C library has no mallopt.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
