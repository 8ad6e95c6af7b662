"""Subscribers: each handles every event of its types once, in the order of the log, also after failures.

A subscriber is a handler with a cursor in the event log. The log has the events; the Redis channel only
notifies of new ones. A handler runs in the transaction that advances the cursor, so it only changes our data
or enqueues jobs. A call to the outside belongs in an external job.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from redis import Redis
from redis.client import PubSub

from actors import tracing
from actors.events import CHANNEL, TYPES_CHANNEL, EventType
from actors.jobs import failure_text, transaction
from db import postgres, redis, subscriptions
from db.core import request_context
from db.event_log import Event
from db.subscriptions import Claim

# How often an event is tried before the subscriber gives it up: for one to two minutes.
MAX_ATTEMPTS = 8
# How many events one transaction handles.
_BATCH = 256
# How long one poll waits for a notification, and after how many polls without one the log is read.
_POLL_S, _IDLE_POLLS = 1.0, 5
# For how long further notifications are collected after the first one.
_COLLECT_S = 0.1
# For how long after a failure the log is read after each poll. Longer than the longest pause between
# attempts.
_RETRIES_FOR_S = 70.0
# After how many polls without a notification the channel is subscribed anew: the connection may be half-open.
_SILENT_POLLS = 60

Handler = Callable[[Event], None]

log = structlog.get_logger(__name__)

# The monotonic time until which the log is read after each poll.
_retries_until = 0.0


class _HandlerFailed(Exception):
    """A handler raised at an event; `index` is its place in the batch."""

    def __init__(self, event: Event, index: int, error: Exception) -> None:
        super().__init__(f"event {event.id}: {failure_text(error)}")
        self.event, self.index = event, index


@dataclass(frozen=True)
class Subscriber:
    """A handler of some types of events. Its cursor is stored under its name: renamed, it is a new one.

    A new subscriber begins at the end of the log. Of several processes with the same subscriber, one at a
    time handles its events.
    """

    name: str
    handler: Handler
    types: Collection[EventType]

    def advance(self) -> bool:
        """Handles the next events; returns whether the cursor moved: then there may be more events."""
        claim = subscriptions.claim(self.name, self.types)
        if claim is None:
            return False
        if claim.attempts > MAX_ATTEMPTS:
            return self._give_up(claim)
        # Fewer events at each attempt, at last one: nothing can record which event has killed the process.
        limit = max(1, _BATCH >> 2 * (claim.attempts - 1))
        try:
            advanced, failure = self._handle_until_failure(claim, limit)
        except postgres.DatabaseUnavailable:
            raise
        except postgres.TRANSIENT_ERRORS as error:
            log.warning("handler waits for a lock", subscriber=self.name, error=str(error).strip())
            subscriptions.release(claim)
            _expect_retry()
            return False
        if advanced and failure:
            self._record_failure(advanced, failure)
        return advanced is not None and advanced is not claim

    def handle(self, event: Event) -> None:
        """Handles one event, in the open transaction."""
        attributes = tracing.message_attributes("redis", "process", CHANNEL, event.id)
        more = {"messaging.consumer.group.name": self.name, "paywright.event.type": event.type}
        with (
            request_context.for_request(event),
            tracing.span(f"process {CHANNEL}", "CONSUMER", {**attributes, **more}),
        ):
            self.handler(event)

    def _handle_until_failure(self, claim: Claim, limit: int) -> tuple[Claim | None, Exception | None]:
        """Handles events up to the first one that fails; returns the claim that follows, and the failure.

        The claim is the same if no event was handled, and None if another process has it.
        """
        failure: Exception | None = None
        while limit:
            try:
                return self._handle_batch(claim, limit), failure
            except postgres.TRANSIENT_ERRORS:
                raise
            except Exception as error:
                # The transaction was rolled back: the events before the failed one are handled again, alone.
                failure, limit = error, error.index if isinstance(error, _HandlerFailed) else 0
        return claim, failure

    def _handle_batch(self, claim: Claim, limit: int) -> Claim | None:
        """Handles up to `limit` events and advances the cursor; None when another process has the claim."""
        with transaction():
            locked = subscriptions.lock_next(claim, self.types, limit)
            if locked is None:
                return None
            events, seq = locked
            for index, event in enumerate(events):
                try:
                    self.handle(event)
                except Exception as error:
                    if isinstance(error, postgres.TRANSIENT_ERRORS) and not postgres.is_timeout(error):
                        raise
                    raise _HandlerFailed(event, index, error) from error
            return subscriptions.advance(claim, seq)

    def _record_failure(self, claim: Claim, error: Exception) -> None:
        """Logs a failure, and postpones the next attempt."""
        event = error.event if isinstance(error, _HandlerFailed) else None
        log.error(
            "handler failed, will be retried",
            subscriber=self.name,
            seq=event and event.seq,
            event_id=event and str(event.id),
            attempts=max(1, claim.attempts),
            exc_info=error,
        )
        subscriptions.record_failure(claim, str(error) if event else failure_text(error))
        _expect_retry()

    def _give_up(self, claim: Claim) -> bool:
        """Skips the next event, and records it as missed; returns False if another process has the claim."""
        reason = claim.error or "its process died while it was handled"
        with transaction():
            locked = subscriptions.lock_next(claim, self.types, 1)
            if locked is None:
                return False
            events, seq = locked
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

    One statement when there are none. Raises postgres.DatabaseUnavailable.
    """
    types = {subscriber.name: subscriber.types for subscriber in subscribers}
    with postgres.connection():
        ready, new = subscriptions.find_ready(types)
        if new:
            subscriptions.create(new)
            ready, _ = subscriptions.find_ready(types)
        # Each subscriber claims its events just before it handles them: a handler that kills the process
        # costs no other subscriber an attempt.
        advanced = [subscriber.advance() for subscriber in subscribers if subscriber.name in ready]
    return any(advanced)


class Notifications:
    """Waits on the Redis channel for events of these types, or of any. Messages may be lost, events not."""

    def __init__(self, redis_client: Redis, types: Collection[str] | None = None) -> None:
        self._redis = redis_client
        self._types = None if types is None else frozenset(types)
        self._channel: PubSub | None = None
        self._silent_polls = 0

    def wait(
        self, stopped: threading.Event, *, polls: int = _IDLE_POLLS, collect_s: float = _COLLECT_S
    ) -> None:
        """Waits for a notification: for `polls` seconds at most, one second while a failed event waits.

        After the first notification, collects further ones for `collect_s`.
        """
        polls = 1 if time.monotonic() < _retries_until else polls
        try:
            while polls and not stopped.is_set():
                polls -= 1
                if self._is_notified():
                    stopped.wait(collect_s)
                    while self._next(0) is not None:
                        pass
                    return
        except redis.Unreachable:
            self.close()
            stopped.wait(_POLL_S)

    def _is_notified(self) -> bool:
        """Waits for one poll; returns whether there may be new events."""
        if self._channel is None:
            # The answer to SUBSCRIBE ends the wait too: an event may have been published before it.
            self._channel = self._redis.pubsub()  # type: ignore[no-untyped-call]
            self._channel.subscribe(TYPES_CHANNEL)
        deadline = time.monotonic() + _POLL_S
        while (message := self._next(max(0, deadline - time.monotonic()))) is not None:
            self._silent_polls = 0
            if message["type"] != "message" or self._concerns(message["data"].decode(errors="replace")):
                return True
        self._silent_polls += 1
        if self._silent_polls == _SILENT_POLLS:
            self.close()
        return False

    def _next(self, timeout: float) -> dict[str, Any] | None:
        assert self._channel
        found: dict[str, Any] | None = self._channel.get_message(timeout=timeout)
        return found

    def _concerns(self, types: str) -> bool:
        return self._types is None or not self._types.isdisjoint(types.split())

    def close(self) -> None:
        self._silent_polls = 0
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _expect_retry() -> None:
    global _retries_until
    _retries_until = time.monotonic() + _RETRIES_FOR_S
