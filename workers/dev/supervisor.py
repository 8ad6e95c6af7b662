"""Children that are started again when they die, and stopped together. One thread, one loop."""

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType

from workers.dev import processes
from workers.dev.output import Output

WRONG_SETTING = 2


class Stop(Exception):
    """The end of the run: its exit code, and why if nobody asked for it."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@dataclass
class Child:
    name: str
    spawn: Callable[[int], subprocess.Popen[bytes]]
    stops: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    server: bool = False
    once: bool = False
    noise: bytes = b""
    # How many deaths before its first answer are too many.
    patience: int | None = None
    process: subprocess.Popen[bytes] | None = None
    code: int | None = None
    deaths: int = 0
    born: float = 0
    delay: float = 0
    due: float | None = None
    last: str = ""
    unfinished: bytearray = field(default_factory=bytearray)


class Supervisor:
    """Raises Stop out of `until` and `forever`; whoever made it calls `stop`."""

    def __init__(self, output: Output, record: Callable[[Mapping[str, int]], None]) -> None:
        self.output, self.record = output, record
        self.children: list[Child] = []
        self.pipes: dict[int, tuple[Child, subprocess.Popen[bytes]]] = {}
        self.asked: list[int] = []
        self.parent = os.getppid() if "MAKELEVEL" in os.environ else None
        self.minds = self.parent is not None and processes.catches(self.parent, signal.SIGINT)
        # A signal, a dead child's too, ends the wait in `_listen` at once.
        self.woken, self.waker = socket.socketpair()
        self.woken.setblocking(False)
        self.waker.setblocking(False)
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._ask)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def start(self, child: Child) -> Child:
        self.children.append(child)
        self._spawn(child)
        return child

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.turn(0.05)

    def forever(self) -> None:
        while True:
            self.turn(0.5)

    def turn(self, seconds: float) -> None:
        """Wait for something to happen, and see to it; raises Stop."""
        now = time.monotonic()
        due = [child.due - now for child in self.children if child.due is not None]
        self._listen(max(0, min([seconds, *due])))
        for child in self.children:
            if child.process and child.process.poll() is not None:
                self._bury(child, child.process)
            if child.due is not None and child.due <= time.monotonic():
                self._spawn(child)
        if self.asked:
            raise Stop(0)
        if self.parent not in (None, os.getppid()):
            raise Stop(0, "make is gone")
        # An interrupted make gives up its handler and waits for us. It does not pass the signal on: it takes
        # for granted that it came from a terminal, and so to us as well.
        if self.minds and self.parent and not processes.catches(self.parent, signal.SIGINT):
            raise Stop(0)

    def stop(self) -> None:
        """First those who work, all at once, then the servers they need."""
        for child in self.children:
            child.due = None
        workers = [child for child in self.children if not child.server]
        asked = len(self.asked)
        self._signal(workers, signal.SIGTERM)
        self._wait(workers, 10, lambda: signal.SIGINT in self.asked[min(asked, 1) :])
        self._signal(workers, signal.SIGKILL)
        servers = [child for child in self.children if child.server]
        for attempt in range(3):
            for child in servers:
                self._signal([child], (*child.stops, signal.SIGKILL)[attempt])
            if self._wait(servers, 10):
                break
        self.record({})
        self.output.finish()

    def _spawn(self, child: Child) -> None:
        child.due, child.born = None, time.monotonic()
        try:
            child.process = child.spawn(subprocess.PIPE)
        except (OSError, subprocess.SubprocessError) as error:
            if not child.deaths:
                raise Stop(1, f"{child.name} does not start: {error}") from None
            self._again(child, f"does not start: {error}")
            return
        assert child.process.stdout
        self.pipes[child.process.stdout.fileno()] = child, child.process
        self._record()

    def _bury(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        child.process, child.code = None, process.returncode
        if not child.server:
            # What it left behind would hold its port. The group's number stays taken while anyone is in it.
            processes.send(process.pid, signal.SIGKILL, group=True)
        deadline = time.monotonic() + 1
        while process in [owner for _, owner in self.pipes.values()] and time.monotonic() < deadline:
            self._listen(0.05)
        self._record()
        if child.once:
            return
        if child.code == WRONG_SETTING and child.deaths == 0 and not child.server:
            # However long it took: on a loaded machine a process may need more than ten seconds to read them.
            raise Stop(WRONG_SETTING, f"{child.name} refuses its settings")
        signalled = f"was killed by {signal.Signals(-child.code).name}" if child.code < 0 else ""
        self._again(child, signalled or f"ended with {child.code}")

    def _again(self, child: Child, what: str) -> None:
        now = time.monotonic()
        if now - child.born >= 10:
            child.delay = 0
        child.deaths += 1
        if child.patience is not None and child.deaths > child.patience:
            raise Stop(1, f"{child.name} does not start: {child.last}")
        child.due = now + child.delay
        when = f"in {child.delay:.1f} s" if child.delay else "now"
        self.output.line(child.name, f"{what}, starting again {when}".encode())
        child.delay = min(5, child.delay * 2 or 0.2)

    def _listen(self, seconds: float) -> None:
        writers = [self.output.fd] if self.output.waiting else []
        readable, _, _ = select.select([self.woken.fileno(), *self.pipes], writers, [], seconds)
        for ready in readable:
            if ready in self.pipes:
                self._read(ready)
            else:
                self.woken.recv(4096)
        self.output.flush()

    def _read(self, fd: int) -> None:
        child, process = self.pipes[fd]
        data = os.read(fd, 65536)
        *lines, rest = (bytes(child.unfinished) + data).split(b"\n")
        if rest and (not data or len(rest) > 65536):
            lines, rest = [*lines, rest], b""
        child.unfinished = bytearray(rest)
        for line in lines:
            child.last = line.decode(errors="replace").strip() or child.last
            if not child.once and not (child.noise and child.noise in line):
                self.output.line(child.name, line.rstrip(b"\r"))
        if not data:
            assert process.stdout
            process.stdout.close()
            del self.pipes[fd]

    def _record(self) -> None:
        self.record({child.name: child.process.pid for child in self.children if child.process})

    def _signal(self, children: list[Child], signum: signal.Signals) -> None:
        for child in children:
            if child.process:
                processes.send(child.process.pid, signum, group=not child.server)

    def _wait(self, children: list[Child], seconds: float, hurry: Callable[[], bool] = lambda: False) -> bool:
        deadline = time.monotonic() + seconds
        while any(child.process and not self._over(child) for child in children):
            if time.monotonic() > deadline or hurry():
                return False
            self._listen(0.05)
        return True

    def _over(self, child: Child) -> bool:
        process = child.process
        return process is None or (
            process.poll() is not None and (child.server or not processes.group_lives(process.pid))
        )

    def _ask(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.asked.append(signum)
