"""A circuit breaker: keeps callers from waiting, one after the other, for a store that does not answer."""

import threading
import time
from collections.abc import Callable

# How long the breaker stays open after a failure.
OPEN_S = 1.0


class Breaker:
    """Allows all calls while the store answers.

    After a failure it allows none for OPEN_S, then one; the others are refused until that one succeeds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failing = False
        self._open_until = 0.0

    def allows(self) -> bool:
        """Returns whether to call the store now. The caller then records a success or a failure."""
        if not self._failing:
            return True
        with self._lock:
            now = self._clock()
            if now < self._open_until:
                return False
            self._open_until = now + OPEN_S
            return True

    def record_failure(self) -> None:
        """Records that the store did not answer, or refused."""
        self._open_until = self._clock() + OPEN_S
        self._failing = True

    def record_success(self) -> None:
        """Records that the store answered."""
        self._failing = False
