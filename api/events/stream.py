"""One event stream: what its client gets, as the pieces of a response that does not end."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Protocol
from uuid import UUID

from api.http import admission
from db import postgres, visible_events
from db.core import times
from db.payment_lists import Visibility
from db.users import Role

# After how long without an event the client gets a comment, so that no proxy takes the stream for dead.
HEARTBEAT_S = 15.0
# How often a silent stream looks whether it must end.
_LOOK_S = 1.0
# When a client may connect again after the stream has ended.
_RETRY_MS = 2_000
# Events that wait for a slow client, and bytes of one write. Above that the stream reads the log again.
MAX_WAITING, _WRITE_BYTES = 200, 64 * 1024
# A stream that reads the log reads so many events at once, of so many numbers.
_PAGE, _STRIDE = 100, 2_000
# Streams of one process that read the log at once. All read it after a restart.
_reading = threading.BoundedSemaphore(2)

# Single lines, without the empty line that would end an event.
_OPENING = b": connected\nretry: %d\n" % _RETRY_MS
HEARTBEAT = b": heartbeat\n"


class Feed(Protocol):
    """What a stream needs of the feed."""

    def join(self, stream: "Stream") -> None:
        """Gives the stream every event from now on."""

    def leave(self, stream: "Stream") -> None:
        """Forgets the stream."""


class Stream:
    """The events after `after` that a caller may see, in the order of the log, each once.

    The stream is in one of two states. While `after` is before `_behind` it reads the log itself; else the
    feed gives it new events. A client that reads too slowly falls back to the log: memory holds at most
    MAX_WAITING events for it.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        user_id: UUID,
        session_id: UUID,
        role: Role,
        visibility: Visibility,
        after: int,
        log_end: int,
        ends_at: datetime,
        is_awaited: Callable[[], bool],
        serialize: Callable[[visible_events.VisibleEvent], bytes],
    ) -> None:
        self.user_id, self.session_id, self.role, self.visibility = user_id, session_id, role, visibility
        # The last number of the log when the stream was asked for.
        self.log_end = log_end
        self._feed, self._serialize = feed, serialize
        self._after, self._behind = after, after
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._woken = threading.Event()
        self._ends_at, self._is_awaited, self._ended = ends_at, is_awaited, False

    def __iter__(self) -> Iterator[bytes]:
        yield _OPENING
        self._feed.join(self)
        try:
            while self._goes_on():
                if self._after < self._behind:
                    yield self._read_log()
                elif self._waiting:
                    yield self._take()
                elif not self.wait():
                    yield HEARTBEAT
        finally:
            self._feed.leave(self)

    def catch_up(self, seq: int) -> None:
        """Makes the stream read the log up to this number. It gets the later events."""
        self._behind = max(self._behind, seq)

    def put(self, seq: int, text: bytes) -> None:
        """Adds a new event."""
        if len(self._waiting) >= MAX_WAITING:
            if self._after >= self._behind:
                # The log has no other visible event before the first one that waits.
                self._after = max(self._after, self._waiting[0][0] - 1)
            self._waiting.clear()
            self._behind = seq
        else:
            self._waiting.append((seq, text))
        self._woken.set()

    def end(self) -> None:
        """Ends the stream."""
        self._ended = True
        self._woken.set()

    def wait(self) -> bool:
        """Waits for an event or the end; False when nothing has happened for HEARTBEAT_S."""
        silent_until = time.monotonic() + HEARTBEAT_S
        while self._goes_on() and time.monotonic() < silent_until:
            if self._woken.wait(_LOOK_S):
                self._woken.clear()
                return True
        return not self._goes_on()

    def _goes_on(self) -> bool:
        return not self._ended and self._is_awaited() and times.now() < self._ends_at

    def _take(self) -> bytes:
        """Returns the events that wait, up to a size."""
        texts, size = [], 0
        while self._waiting and size < _WRITE_BYTES:
            seq, text = self._waiting.popleft()
            # What came while the stream read the log was in the log too.
            if seq > self._after:
                self._after = seq
                texts.append(text)
                size += len(text)
        return b"".join(texts)

    def _read_log(self) -> bytes:
        """Returns the next events of the log; a heartbeat where there are none, or no database."""
        until = min(self._behind, self._after + _STRIDE)
        try:
            with _reading, admission.executing(), postgres.connection():
                found = visible_events.read(self.visibility, after=self._after, until=until, limit=_PAGE)
        except postgres.TRANSIENT_ERRORS:
            self._woken.wait(_LOOK_S)
            return HEARTBEAT
        self._after = found[-1].event.seq if len(found) == _PAGE else until
        return b"".join(map(self._serialize, found)) or HEARTBEAT
