"""The threads of a worker: those that handle messages, those that call the outside, and whose turn it is.

A thread that hangs can be neither interrupted nor replaced. When all threads hang, the process stops its
heartbeat, so that /health reports it, and then exits, so that its supervisor starts it again.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

_thread = threading.local()


class BusyThreads:
    """Counts the busy threads of a pool and their progress, to notice that all of them hang."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._lock = threading.Lock()
        self._busy = self._progress = 0
        self._last_progress, self._stalled_checks = -1, 0

    def counted(self, handle: Callable[[str], None]) -> Callable[[str], None]:
        """Returns a message handler whose thread counts as busy while it runs."""

        def counted(id: str) -> None:
            _thread.pool = self
            self.advance(busy=1)
            try:
                handle(id)
            finally:
                self.advance(busy=-1)

        return counted

    def check(self) -> int:
        """Returns for how many checks in a row all threads were busy and none made progress.

        Counts checks and not seconds: while the whole process is frozen, no check runs. A single thread may
        have one long job, so it never counts as hanging.
        """
        with self._lock:
            stalled = (
                self.threads > 1 and self._busy >= self.threads and self._progress == self._last_progress
            )
            self._last_progress = self._progress
            self._stalled_checks = self._stalled_checks + 1 if stalled else 0
            return self._stalled_checks

    def advance(self, *, busy: int = 0) -> None:
        """Counts one step of progress, and adds `busy` to the number of busy threads."""
        with self._lock:
            self._busy += busy
            self._progress += 1


class CallThreads:
    """Threads that call the outside for the jobs of one name, started when they are first needed.

    A job takes a place before it is leased, so that no leased job waits for a thread, and gives the place
    back when its result is recorded. There may be one thread more than places: the one that records results.

    The threads are daemons: a call that hangs does not keep the process from ending.
    """

    def __init__(self, threads: int) -> None:
        self.busy = BusyThreads(threads)
        self._lock = threading.Condition()
        self._free = self._size = threads
        self._idle = 0
        self.is_open = True
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def take(self) -> int:
        """Takes all free places and returns their number; 0 after `close`."""
        with self._lock:
            taken = self._free if self.is_open else 0
            self._free -= taken
            return taken

    def give_back(self, places: int) -> None:
        """Makes places free again."""
        with self._lock:
            self._free += places
            self._lock.notify_all()

    def start(self, call: Callable[[], None]) -> None:
        """Runs the call in an idle thread, or in a new one. The caller has taken a place for it."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._run, name="call", daemon=True).start()
        self._calls.put(call)

    def close(self) -> None:
        """Gives no more places: `take` returns 0 from now on."""
        with self._lock:
            self.is_open = False

    def join(self, timeout_s: float) -> bool:
        """Waits until all places are free; returns False if some are not after `timeout_s`."""
        with self._lock:
            return self._lock.wait_for(lambda: self._free == self._size, timeout_s)

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            self.busy.advance(busy=1)
            try:
                call()
            finally:
                self.busy.advance(busy=-1)
                with self._lock:
                    self._idle += 1


def rest(seconds: float) -> None:
    """Sleeps in a thread of a worker, so that more work gathers meanwhile; does nothing in other threads."""
    if getattr(_thread, "pool", None) is not None:
        time.sleep(seconds)


def made_progress() -> None:
    """Counts a step of progress of this thread, whose message has many steps: it does not hang."""
    pool: BusyThreads | None = getattr(_thread, "pool", None)
    if pool is not None:
        pool.advance()


class Turn:
    """Lets one thread at a time do some work, and repeats the work for threads that come meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = self._requested = False

    def run(self, work: Callable[[], object], *, hand_over: bool = False) -> None:
        """Calls `work`, unless another thread has the turn: that thread then calls `work` once more.

        What a thread prepares before it calls `run`, such as a committed row or an entry of a queue, is seen
        by a call of `work` that begins afterwards. With `hand_over`, the calls after the first one are made
        in a new thread.
        """
        with self._lock:
            self._requested = True
            if self._taken:
                return
            self._taken = True
        self._work(work, hand_over)

    def _work(self, work: Callable[[], object], hand_over: bool = False) -> None:
        try:
            while self._begin():
                work()
                if hand_over and self._requested:
                    threading.Thread(target=self._work, args=(work,), daemon=True).start()
                    return
        except BaseException:
            with self._lock:
                self._taken = False
            raise

    def request(self) -> None:
        """Requests one more call of `work`; for the thread that has the turn."""
        with self._lock:
            self._requested = True

    def _begin(self) -> bool:
        """Takes the request and returns True; without a request, gives the turn back and returns False."""
        with self._lock:
            self._taken = self._requested
            self._requested = False
            return self._taken
