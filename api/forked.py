"""Calls a function in a forked process, so that the memory that it takes is given back with that process."""

import os
import sys
import traceback
from collections.abc import Callable


def compute(function: Callable[[], bytes | None]) -> bytes:
    """Returns what the function returns in a forked process; empty bytes for None.

    Where the function exits or raises, this process exits with the same status. Only for a process without
    other threads: a fork does not copy them.
    """
    # Both processes would write what is still buffered.
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _exit_with(function, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(status)
    return content


def _exit_with(function: Callable[[], bytes | None], writer: int) -> None:
    status = 1
    try:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(function() or b"")
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Without the parent's exit handlers.
        os._exit(status)
