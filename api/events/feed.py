"""The feed: reads new events of the log once, for all event streams of this process."""

import threading
import time
from collections import defaultdict
from uuid import UUID

import structlog

from actors.events import message
from actors.subscriber import Notifications
from api.events.stream import Stream
from api.http import admission
from api.http.admission import Busy
from db import live_sessions, postgres, redis, visible_events
from db.core.errors import DomainError, ErrorCode
from db.payment_lists import Party, Visibility
from db.visible_events import VisibleEvent

# Streams of one process: in total, and of one user, whose programs and browser tabs each have one.
MAX_STREAMS, MAX_STREAMS_OF_USER = 5_000, 1_000
# How often the sessions of all streams are looked up. The log is read as often where Redis says nothing.
_SESSIONS_S = 1.0
# How many events one statement reads.
_PAGE = 200
# After a notification: how long to collect further ones.
_COLLECT_S = 0.02

log = structlog.get_logger(__name__)


class TooManyStreams(DomainError, code=ErrorCode.RATE_LIMITED, retry_after=30):
    """Too many event streams of this user are open: close one."""


class Feed:
    """The open streams of this process, and how far the log is read for them.

    It decides once for each event who may see it: a stream is found by the parties that it waits for. While
    no stream is open it does nothing.
    """

    def __init__(self, redis_client: redis.Client) -> None:
        self._notifications = Notifications(redis_client)
        self._lock = threading.Lock()
        self._streams: set[Stream] = set()
        # By None those that see every event.
        self._by_party: defaultdict[Party | None, set[Stream]] = defaultdict(set)
        self._runs = False
        self._seq = 0
        self._sessions_read_at = 0.0
        self._never = threading.Event()

    def check_limits(self, user_id: UUID) -> None:
        """Refuses a stream too many. Raises Busy or TooManyStreams."""
        if len(self._streams) >= MAX_STREAMS:
            raise Busy
        if sum(stream.user_id == user_id for stream in list(self._streams)) >= MAX_STREAMS_OF_USER:
            raise TooManyStreams

    def join(self, stream: Stream) -> None:
        """Gives a stream every event from now on. It reads what came before in the log by itself."""
        with self._lock:
            if not self._runs:
                self._seq = stream.log_end
            self._streams.add(stream)
            for party in stream.visibility.parties or (None,):
                self._by_party[party].add(stream)
            stream.catch_up(self._seq)
            if not self._runs:
                self._runs = True
                self._start()

    def leave(self, stream: Stream) -> None:
        """Forgets a stream that has ended."""
        with self._lock:
            self._streams.discard(stream)
            for party in stream.visibility.parties or (None,):
                self._by_party[party].discard(stream)
                if not self._by_party[party]:
                    del self._by_party[party]

    def once(self) -> None:
        """Ends the streams of ended sessions, and hands out the new events. Raises a database error."""
        # In one of the places of requests: the feed must not take the connection that a request counts on.
        with admission.executing(), postgres.connection():
            if time.monotonic() - self._sessions_read_at >= _SESSIONS_S:
                self._end_streams()
                self._sessions_read_at = time.monotonic()
            while page := visible_events.read(Visibility(), after=self._seq, limit=_PAGE):
                with self._lock:
                    for found in page:
                        self._hand_out(found)
                    self._seq = page[-1].event.seq
                if len(page) < _PAGE:
                    return

    def _start(self) -> None:
        threading.Thread(target=self._run, name="event-feed", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._streams:
                    self._runs = False
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
        roles = live_sessions.roles({stream.session_id for stream in list(self._streams)})
        for stream in list(self._streams):
            # Another role sees other events.
            if roles.get(stream.session_id) != stream.role:
                stream.end()
        if visible_events.last_seq() < self._seq:
            log.warning("the event log ends before an event that was sent: was the database restored?")
            for stream in list(self._streams):
                stream.end()
            self._seq = visible_events.last_seq()

    def _hand_out(self, found: VisibleEvent) -> None:
        concerned = set().union(*(self._by_party.get(party, ()) for party in (None, *found.parties)))
        if concerned:
            text = serialize(found)
            for stream in concerned:
                stream.put(found.event.seq, text)


def serialize(found: VisibleEvent) -> bytes:
    """Returns an event as a stream has it."""
    event = found.event
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.type.encode(), message(event))
