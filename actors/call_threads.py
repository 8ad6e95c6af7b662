"""Threads that call the outside for the jobs of one name. They are started when they are first needed."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

from actors.worker_threads import WorkerThreads


class CallThreads:
    """A number of places for calls, taken before their jobs are leased: a leased job does not wait.

    A place is given back when its call is recorded. The thread that records it may be one more than places.

    Daemon threads: a call that hangs does not keep its process from ending.
    """

    def __init__(self, threads: int) -> None:
        self.counted = WorkerThreads(threads)
        self._lock = threading.Condition()
        self._free = self._size = threads
        self._idle = 0
        self.is_open = True
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def take(self) -> int:
        """Takes all free places, and returns how many; none once it is closed."""
        with self._lock:
            taken = self._free if self.is_open else 0
            self._free -= taken
            return taken

    def give_back(self, places: int) -> None:
        """Makes places free again: those of calls that have ended or are not made."""
        with self._lock:
            self._free += places
            self._lock.notify_all()

    def start(self, call: Callable[[], None]) -> None:
        """Runs this in one of the threads."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._run, name="call", daemon=True).start()
        self._calls.put(call)

    def close(self) -> None:
        """Lets no further place be taken."""
        with self._lock:
            self.is_open = False

    def join(self, timeout_s: float) -> bool:
        """Waits until all places are free; returns whether they are."""
        with self._lock:
            return self._lock.wait_for(lambda: self._free == self._size, timeout_s)

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            self.counted.advance(busy=1)
            try:
                call()
            finally:
                self.counted.advance(busy=-1)
                with self._lock:
                    self._idle += 1
