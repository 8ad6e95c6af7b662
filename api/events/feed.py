"""Event streams: what each client gets, and the feed that reads new events once for all of them."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import datetime
from uuid import UUID

import structlog

from actors.events import message
from actors.subscriber import Notifications
from api.http import admission
from api.http.admission import Busy
from api.security.permissions import Caller
from db import event_log, live_sessions, postgres, redis
from db.core import times
from db.core.errors import DomainError, ErrorCode
from db.event_log import VisibleEvent
from db.shown_payments import Party, Visibility

# Streams of one process: in total, and of one user, whose programs and browser tabs each have one.
MAX_STREAMS, MAX_STREAMS_OF_USER = 5_000, 1_000
# How often the sessions of all streams are read. Without notifications from Redis, the log is read as often.
_READ_SESSIONS_EVERY_S = 1.0
# How many events one statement of the feed reads.
_FEED_PAGE = 200
# How long further notifications are collected after one has arrived.
_COLLECT_S = 0.02

# After how long without an event the client gets a comment, so that no proxy takes the stream for dead.
HEARTBEAT_S = 15.0
# How often a stream without events checks whether it must end.
_CHECK_END_EVERY_S = 1.0
# When a client may connect again after the stream has ended.
_RETRY_MS = 2_000
# How many events wait for a slow client before its stream reads the log instead; bytes of one write.
MAX_WAITING, _WRITE_BYTES = 200, 64 * 1024
# How many events a stream reads from the log at once, and how many numbers it searches for them.
_LOG_PAGE, _LOG_STRIDE = 100, 2_000
# Streams of one process that read the log at once. After a restart, all streams have to.
_reading = threading.BoundedSemaphore(2)

# Single lines, without the empty line that would end an event.
_OPENING = b": connected\nretry: %d\n" % _RETRY_MS
HEARTBEAT = b": heartbeat\n"

log = structlog.get_logger(__name__)


class TooManyStreams(DomainError, code=ErrorCode.RATE_LIMITED, retry_after=30):
    """Too many event streams of this user are open: close one."""


class Stream:
    """Yields the events numbered above `after` that a caller may see, in the order of the log, each once.

    The stream is in one of two states. Until it has sent the event `_log_until` it reads the log itself; then
    it sends the new events that the feed puts in. The stream of a client that reads too slowly goes back to
    the log: memory holds at most MAX_WAITING events for it.
    """

    def __init__(
        self,
        feed: "Feed",
        caller: Caller,
        visibility: Visibility,
        *,
        after: int,
        log_end: int,
        ends_at: datetime,
        is_awaited: Callable[[], bool],
    ) -> None:
        self.caller, self.visibility = caller, visibility
        # The last number of the log when the stream was requested.
        self.log_end = log_end
        self._feed = feed
        self._after, self._log_until = after, after
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._woken = threading.Event()
        self._ends_at, self._is_awaited, self._ended = ends_at, is_awaited, False

    def __iter__(self) -> Iterator[bytes]:
        yield _OPENING
        self._feed.join(self)
        try:
            while self._goes_on():
                if self._after < self._log_until:
                    yield self._read_log()
                elif self._waiting:
                    yield self._take()
                elif not self.wait():
                    yield HEARTBEAT
        finally:
            self._feed.leave(self)

    def catch_up(self, seq: int) -> None:
        """Makes the stream read the log up to this number. The feed puts in all later events."""
        self._log_until = max(self._log_until, seq)

    def put(self, seq: int, text: bytes) -> None:
        """Adds a new event. If too many wait, the stream reads the log up to this one instead."""
        if len(self._waiting) >= MAX_WAITING:
            if self._after >= self._log_until:
                # The log has no other visible event before the first one that waits.
                self._after = max(self._after, self._waiting[0][0] - 1)
            self._waiting.clear()
            self._log_until = seq
        else:
            self._waiting.append((seq, text))
        self._woken.set()

    def end(self) -> None:
        """Ends the stream."""
        self._ended = True
        self._woken.set()

    def wait(self) -> bool:
        """Waits for an event or the end. Returns False when neither has come for HEARTBEAT_S."""
        silent_until = time.monotonic() + HEARTBEAT_S
        while self._goes_on() and time.monotonic() < silent_until:
            if self._woken.wait(_CHECK_END_EVERY_S):
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
            # An event that was put in while the stream read the log was in the log too.
            if seq > self._after:
                self._after = seq
                texts.append(text)
                size += len(text)
        return b"".join(texts)

    def _read_log(self) -> bytes:
        """Returns the next events of the log; a heartbeat where there are none, or no database."""
        until = min(self._log_until, self._after + _LOG_STRIDE)
        try:
            with _reading, admission.executing(), postgres.connection():
                found = event_log.read_visible(
                    self.visibility, after=self._after, until=until, limit=_LOG_PAGE
                )
        except postgres.TRANSIENT_ERRORS:
            self._woken.wait(_CHECK_END_EVERY_S)
            return HEARTBEAT
        self._after = found[-1].event.seq if len(found) == _LOG_PAGE else until
        return b"".join(map(_serialize, found)) or HEARTBEAT


class Feed:
    """Reads new events once for all open streams of this process.

    An event's parties lead to the streams that may see it: no stream is asked. While no stream is open, the
    feed does nothing.
    """

    def __init__(self, redis_client: redis.Client) -> None:
        self._notifications = Notifications(redis_client)
        self._lock = threading.Lock()
        self._streams: set[Stream] = set()
        # Under None are the streams that see every event.
        self._by_party: defaultdict[Party | None, set[Stream]] = defaultdict(set)
        self._is_running = False
        # The number of the last event that was handed out.
        self._seq = 0
        self._sessions_read_at = 0.0
        # Never set: the wait for notifications ends by itself.
        self._never = threading.Event()

    def check_limits(self, user_id: UUID) -> None:
        """Raises Busy or TooManyStreams if no further stream of this user may be opened."""
        if len(self._streams) >= MAX_STREAMS:
            raise Busy
        if sum(stream.caller.user_id == user_id for stream in list(self._streams)) >= MAX_STREAMS_OF_USER:
            raise TooManyStreams

    def join(self, stream: Stream) -> None:
        """Puts all later events into a stream, which reads the earlier ones from the log itself."""
        with self._lock:
            if not self._is_running:
                self._seq = stream.log_end
            self._streams.add(stream)
            for party in stream.visibility.parties or (None,):
                self._by_party[party].add(stream)
            stream.catch_up(self._seq)
            if not self._is_running:
                self._is_running = True
                self._start()

    def leave(self, stream: Stream) -> None:
        """Removes a stream that has ended."""
        with self._lock:
            self._streams.discard(stream)
            for party in stream.visibility.parties or (None,):
                self._by_party[party].discard(stream)
                if not self._by_party[party]:
                    del self._by_party[party]

    def once(self) -> None:
        """Ends the streams of ended sessions, and hands out the new events. Raises a database error."""
        # In a slot of the requests that execute: each request in a slot must find a free connection.
        with admission.executing(), postgres.connection():
            if time.monotonic() - self._sessions_read_at >= _READ_SESSIONS_EVERY_S:
                self._end_streams()
                self._sessions_read_at = time.monotonic()
            while page := event_log.read_visible(Visibility(), after=self._seq, limit=_FEED_PAGE):
                with self._lock:
                    for found in page:
                        self._hand_out(found)
                    self._seq = page[-1].event.seq
                if len(page) < _FEED_PAGE:
                    return

    def _start(self) -> None:
        threading.Thread(target=self._run, name="event-feed", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._streams:
                    self._is_running = False
                    break
            try:
                self.once()
            except postgres.TRANSIENT_ERRORS as error:
                log.warning("new events cannot be read, will be retried", error=str(error).strip())
            except Exception as error:
                log.error("the event feed failed, will be retried", exc_info=error)
            self._notifications.wait(self._never, polls=1, collect_s=_COLLECT_S)
        self._notifications.close()

    def _end_streams(self) -> None:
        """Ends the streams of sessions that have ended; all streams, if the log has lost its last events."""
        roles = live_sessions.roles({stream.caller.session_id for stream in list(self._streams)})
        for stream in list(self._streams):
            # Another role sees other events.
            if roles.get(stream.caller.session_id) != stream.caller.role:
                stream.end()
        if event_log.last_seq() < self._seq:
            log.warning("the event log ends before an event that was sent: was the database restored?")
            for stream in list(self._streams):
                stream.end()
            self._seq = event_log.last_seq()

    def _hand_out(self, found: VisibleEvent) -> None:
        concerned = set().union(*(self._by_party.get(party, ()) for party in (None, *found.parties)))
        if concerned:
            text = _serialize(found)
            for stream in concerned:
                stream.put(found.event.seq, text)


def _serialize(found: VisibleEvent) -> bytes:
    """Returns an event in the format of Server-Sent Events."""
    event = found.event
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.type.encode(), message(event))
