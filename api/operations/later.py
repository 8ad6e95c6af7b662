"""Defers work of requests for a moment, so that it is done once for many of them."""

import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)


class Later:
    """Calls `work` in a thread of its own, `delay_s` after the first `request` since the last call."""

    def __init__(self, work: Callable[[], object], delay_s: float) -> None:
        self._work, self._delay_s = work, delay_s
        self._requested = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def request(self) -> None:
        """Makes sure that the work is done in `delay_s` at the latest."""
        if not self._requested.is_set():
            self._requested.set()

    def _run(self) -> None:
        while True:
            self._requested.wait()
            time.sleep(self._delay_s)
            # Before the work: a request from here on needs another call.
            self._requested.clear()
            try:
                self._work()
            except Exception:
                # The thread goes on: a disk that is full for a moment must not end the access log for ever.
                log.exception("work left by requests not done")
