"""The lines of all children on our stdout, which may be slow, stopped or gone: nobody waits for it."""

import os
import select
import sys
import time

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
LIMIT = 1 << 20


class Output:
    def __init__(self, names: list[str]) -> None:
        self.fd = fd = 1 if sys.stdout else -1
        self.width = max(map(len, names))
        coloured = fd > 0 and os.isatty(fd) and not os.environ.get("NO_COLOR")
        self.colours = dict(zip(names, COLOURS * 99, strict=False)) if coloured else {}
        self.pending = bytearray()
        self.lost = 0

    @property
    def waiting(self) -> bool:
        return bool(self.pending)

    def line(self, name: str, text: bytes) -> None:
        head = f"{name:<{self.width}} | "
        if name in self.colours:
            head = f"\033[{self.colours[name]}m{head}\033[0m"
        self._add(head.encode() + text + b"\n")

    def say(self, text: str) -> None:
        """A line of the launcher's own."""
        self._add(f"{text}\n".encode(errors="replace"))

    def flush(self) -> None:
        """As much as the reader takes right now."""
        try:
            while self.pending and select.select([], [self.fd], [], 0)[1]:
                # A pipe that is writable takes this much without blocking.
                written = os.write(self.fd, self.pending[: select.PIPE_BUF])
                del self.pending[:written]
        except BlockingIOError:
            return
        except (OSError, ValueError):  # the reader is gone, its children are not
            self.pending.clear()
            self.fd = -1

    def finish(self, seconds: float = 1) -> None:
        deadline = time.monotonic() + seconds
        while self.pending and time.monotonic() < deadline:
            self.flush()
            time.sleep(0.01)

    def _add(self, line: bytes) -> None:
        if self.fd < 0:
            return
        if len(self.pending) + len(line) > LIMIT:
            self.lost += 1
            return
        if self.lost:
            self.pending += b"... %d lines lost, our reader is too slow\n" % self.lost
            self.lost = 0
        self.pending += line


def complain(text: str) -> None:
    """One line on stderr."""
    if sys.stderr:
        sys.stderr.write(" ".join(text.split()) + "\n")
