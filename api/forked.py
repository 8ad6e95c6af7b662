"""Computes something in a process of its own, so that the memory that it takes ends with that process."""

import os
import sys
import traceback
from collections.abc import Callable


def compute(function: Callable[[], bytes | None]) -> bytes:
    """Returns what the function returns. Exits as the function does: with its status, or after a traceback.

    Only for a process that has no other thread yet.
    """
    # What waits in the buffers would be written twice.
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
