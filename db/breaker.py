"""A breaker: keeps everybody from waiting, one after the other, for a store that does not answer."""

import threading
import time
from collections.abc import Callable

# For how long a store that failed is not asked again, in seconds.
REST_S = 1.0


class Breaker:
    """Lets everybody through while the store is well. After a failure nobody asks it for REST_S; then one
    tries, and the others go on failing at once until that one has an answer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._away = False
        self._asleep_until = 0.0

    def lets_through(self) -> bool:
        """Whether to ask the store now. Who asks says what came of it: `well` or `failed`."""
        if not self._away:
            return True
        with self._lock:
            now = self._clock()
            if now < self._asleep_until:
                return False
            self._asleep_until = now + REST_S
            return True

    def failed(self) -> bool:
        """The store did not answer, or refused; whether that is new."""
        news = not self._away
        self._asleep_until = self._clock() + REST_S
        self._away = True
        return news

    def well(self) -> None:
        """The store answered."""
        self._away = False
