"""Subscribers: each handles every event of its types once, in the order of the log, whatever fails meanwhile.

A subscriber is a handler with a cursor in the event log. The log has the events; the Redis channel only
notifies of new ones. A handler runs in the transaction that advances the cursor, as a transactional job does:
it changes our data or enqueues jobs. What calls the outside belongs into an external job.
"""

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import structlog
from redis import Redis
from redis.client import PubSub

from actors.events import CHANNEL, EventType
from actors.jobs import transaction
from db import postgres, redis, subscriptions
from db.core import request_context
from db.event_log import Event
from db.subscriptions import Claim

# How often an event is tried before the subscriber gives it up: for one to two minutes.
MAX_ATTEMPTS = 8
# How many events one transaction handles.
_BATCH = 256
# How long to wait for a notification; and how long to collect further ones after the first.
_POLL_S, _COLLECT_S = 1.0, 0.1
# After how many polls without a notification the channel is subscribed anew: the connection may be half-open.
_SILENT_POLLS = 60

Handler = Callable[[Event], None]

log = structlog.get_logger(__name__)


class _HandlerFailed(Exception):
    """A handler raised at an event; `index` is its place in the batch."""

    def __init__(self, event: Event, index: int, error: Exception) -> None:
        super().__init__(f"event {event.id}: {_summary(error)}")
        self.event, self.index = event, index


@dataclass(frozen=True)
class Subscriber:
    """A handler of events. Its cursor is stored under its name: renamed, it is a new subscriber.

    `types` None means every type. A new subscriber begins after the event number `after`, by default at the
    end of the log. In several processes with the same subscriber, one at a time handles its events.
    """

    name: str
    handler: Handler
    types: Collection[EventType] | None
    after: int | None = None

    def advance(self) -> bool:
        """Handles the next events; returns whether the cursor moved, so that there may be more."""
        claim = subscriptions.claim(self.name, self.types)
        if claim is None:
            return False
        if claim.attempts > MAX_ATTEMPTS:
            return self._give_up(claim)
        # Fewer events at each attempt: an event that kills the process cannot be recorded, and is found so.
        limit = max(1, _BATCH >> 2 * (claim.attempts - 1))
        failure: Exception | None = None
        while limit:
            try:
                advanced = self._handle_batch(claim, limit)
            except postgres.TRANSIENT_ERRORS as error:
                if isinstance(error, postgres.DatabaseUnavailable):
                    raise
                log.warning("handler waits for a lock", subscriber=self.name, error=str(error).strip())
                subscriptions.release(claim)
                return False
            except Exception as error:
                # The events before the failed one are handled all the same.
                failure, limit = error, error.index if isinstance(error, _HandlerFailed) else 0
            else:
                if failure is None or advanced is None:
                    return advanced is not None
                claim, limit = advanced, 0
        self._record_failure(claim, failure)
        return claim.attempts == 0

    def handle(self, event: Event) -> None:
        """Handles one event, in the open transaction."""
        with request_context.for_request(event.request_id):
            self.handler(event)

    def _handle_batch(self, claim: Claim, limit: int) -> Claim | None:
        """Handles up to `limit` events and advances the cursor; None when another process has the claim."""
        with transaction():
            if not subscriptions.lock(claim):
                return None
            events, seq = subscriptions.next_events(claim, self.types, limit)
            for index, event in enumerate(events):
                try:
                    self.handle(event)
                except Exception as error:
                    if isinstance(error, postgres.TRANSIENT_ERRORS) and not postgres.is_timeout(error):
                        raise
                    raise _HandlerFailed(event, index, error) from error
            return subscriptions.advance(claim, seq)

    def _record_failure(self, claim: Claim, error: Exception | None) -> None:
        event = error.event if isinstance(error, _HandlerFailed) else None
        log.error(
            "handler failed, will be retried",
            subscriber=self.name,
            seq=event and event.seq,
            event_id=event and str(event.id),
            attempts=max(1, claim.attempts),
            exc_info=error,
        )
        subscriptions.record_failure(claim, str(error) if event else _summary(error))

    def _give_up(self, claim: Claim) -> bool:
        """Skips the next event, and records it as missed, so that the later ones can be handled."""
        reason = claim.error or "its process died while it was handled"
        with transaction():
            if not subscriptions.lock(claim):
                return False
            events, seq = subscriptions.next_events(claim, self.types, 1)
            for event in events:
                subscriptions.record_missed(claim, event, reason)
                log.error(
                    "event given up",
                    subscriber=self.name,
                    seq=event.seq,
                    event_id=str(event.id),
                    type=event.type,
                    attempts=MAX_ATTEMPTS,
                    error=reason,
                )
            subscriptions.advance(claim, seq)
        return True


def once(subscribers: Sequence[Subscriber]) -> bool:
    """Lets every subscriber handle its next events; returns whether there may be more.

    Raises postgres.DatabaseUnavailable.
    """
    with postgres.connection():
        subscriptions.create({subscriber.name: subscriber.after for subscriber in subscribers})
        advanced = [subscriber.advance() for subscriber in subscribers]
    return any(advanced)


def retry_missed(subscribers: Sequence[Subscriber]) -> int:
    """Handles the events that subscribers gave up, out of order; returns how many were handled now."""
    by_name = {subscriber.name: subscriber for subscriber in subscribers}
    handled = 0
    with postgres.connection():
        for missed in subscriptions.missed(list(by_name)):
            try:
                with transaction():
                    event = subscriptions.claim_missed(missed)
                    if event is not None:
                        by_name[missed.name].handle(event)
                        handled += 1
            except postgres.TRANSIENT_ERRORS:
                raise
            except Exception as error:
                log.error("event given up again", subscriber=missed.name, seq=missed.seq, exc_info=error)
    return handled


class Notifications:
    """Waits on the Redis channel. Its messages may be lost: the events are in the log."""

    def __init__(self, redis_client: Redis) -> None:
        self._redis = redis_client
        self._channel: PubSub | None = None
        self._silent_polls = 0

    def wait(self, stopped: threading.Event) -> None:
        """Waits for a new event, for a second at most."""
        try:
            if self._channel is None:
                # The answer to SUBSCRIBE ends the wait too: an event may have been published before it.
                self._channel = self._redis.pubsub()  # type: ignore[no-untyped-call]
                self._channel.subscribe(CHANNEL)
            if self._channel.get_message(timeout=_POLL_S) is None:
                self._silent_polls += 1
                if self._silent_polls == _SILENT_POLLS:
                    self.close()
                return
            self._silent_polls = 0
            stopped.wait(_COLLECT_S)
            while self._channel.get_message() is not None:
                pass
        except redis.Unreachable:
            self.close()
            stopped.wait(_POLL_S)

    def close(self) -> None:
        """Unsubscribes."""
        self._silent_polls = 0
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _summary(error: BaseException | None) -> str:
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}"
