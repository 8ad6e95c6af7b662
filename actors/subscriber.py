"""Subscribers: each handler gets every event of its types once, in order, whatever was away meanwhile.

The log is the truth, the channel only the hint that there is something new. A handler is as a @record: it
changes our data or promises work, in the one transaction that moves its place in the log. What touches the
world is promised, to an @effect.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import structlog
from redis import Redis
from redis.client import PubSub

from actors.events import CHANNEL, EventType
from actors.jobs import transaction
from db import postgres, redis, subscriptions
from db.core import request_context
from db.event_log import Event
from db.subscriptions import Claim

# How often an event is tried before it is given up: it takes one to two minutes.
TRIES = 8
# How many events one transaction hands over.
_BATCH = 256
# How long to wait for a hint, and how long to let hints gather after one, in seconds.
_LOOK, _GATHER = 1.0, 0.1
# After so many looks without a hint the line may be dead: it is laid anew.
_SILENT = 60

Handler = Callable[[Event], None]

log = structlog.get_logger(__name__)


class _Stumbled(Exception):
    """A handler raised at an event, which is its place among those that it was handed."""

    def __init__(self, event: Event, place: int, error: Exception) -> None:
        super().__init__(f"event {event.id}: {_words(error)}")
        self.event, self.place = event, place


class Subscriber:
    """Reads the event log for its handlers; of several processes with one name, one at a time hands an event
    to a handler.

    A handler that is new begins at the end of the log, or behind `after`.
    """

    def __init__(self, name: str, *, after: int | None = None) -> None:
        self._name, self._after = name, after
        self._readers: dict[str, _Reader] = {}

    def subscribe(self, type: EventType | None, handler: Handler) -> None:
        """Hands events of this type (None: of every type) to the handler, in its order.

        Its place is kept under its name: who renames a handler makes a new one. Subscribed to several types,
        it has one place for all of them.
        """
        name = f"{self._name}.{handler.__name__}"
        reader = self._readers.setdefault(name, _Reader(name, handler))
        if reader.handle is not handler:
            raise RuntimeError(f"two handlers are called {name}")
        reader.types = None if type is None or reader.types is None else {*reader.types, type}

    def once(self) -> bool:
        """Hands every handler what there is next for it; whether one got on, so that there may be more.

        Raises postgres.Unreachable when the database is away.
        """
        with postgres.connection():
            subscriptions.begin(list(self._readers), self._after)
            # Each has its turn, whatever became of the one before.
            moved = [reader.advance() for reader in self._readers.values()]
        return any(moved)

    def run(
        self, told: threading.Event, redis_client: Redis, *, beat: Callable[[], None] = lambda: None
    ) -> None:
        """Reads on until told to end, whatever is away for a while; `beat` is called after each look."""
        hints, well = _Hints(redis_client), True
        while not told.is_set():
            try:
                more = self.once()
            except postgres.TRANSIENT_ERRORS as error:
                # Said once, not every second: it may last.
                if well:
                    log.warning(
                        "the database is away, waiting", subscriber=self._name, error=str(error).strip()
                    )
                well = False
                # It waits, and does not hang.
                beat()
                told.wait(_LOOK)
                continue
            if not well:
                log.info("the database is back", subscriber=self._name)
            well = True
            beat()
            if not more:
                hints.wait(told)
        hints.close()

    def again(self) -> int:
        """Hands over what was given up, once more and out of its order; how many events are done now."""
        done = 0
        with postgres.connection():
            for missed in subscriptions.missed(list(self._readers)):
                try:
                    with transaction():
                        event = subscriptions.take_missed(missed)
                        if event is not None:
                            self._readers[missed.name].hand(event)
                            done += 1
                except postgres.TRANSIENT_ERRORS:
                    raise
                except Exception as error:
                    log.error("given up as before", subscription=missed.name, seq=missed.seq, exc_info=error)
        return done


@dataclass
class _Reader:
    """One handler, and the types of which it gets the events."""

    name: str
    handle: Handler
    types: Collection[EventType] | None = field(default_factory=set)

    def advance(self) -> bool:
        """Takes the next step, if it is this handler's turn; whether it got on."""
        turn = subscriptions.claim(self.name, self.types)
        if turn is None:
            return False
        if turn.attempts > TRIES:
            return self._give_up(turn)
        # Ever fewer: what kills its process cannot say which event it was, and is found so.
        limit = max(1, _BATCH >> 2 * (turn.attempts - 1))
        failed: Exception | None = None
        while limit:
            try:
                moved = self._read(turn, limit)
            except postgres.TRANSIENT_ERRORS as error:
                if postgres.is_unavailable(error):
                    raise
                log.warning("a handler waits for another", subscription=self.name, error=str(error).strip())
                subscriptions.give_back(turn)
                return False
            except Exception as error:
                # What comes before the bad one is done all the same.
                failed, limit = error, error.place if isinstance(error, _Stumbled) else 0
            else:
                if failed is None or moved is None:
                    return moved is not None
                turn, limit = moved, 0
        self._note(turn, failed)
        return turn.attempts == 0

    def _read(self, turn: Claim, limit: int) -> Claim | None:
        """Hands over so many events at most; None when another has the turn."""
        with transaction():
            if not subscriptions.hold(turn):
                return None
            events, seq = subscriptions.ahead(turn, self.types, limit)
            for place, event in enumerate(events):
                try:
                    self.hand(event)
                except Exception as error:
                    if isinstance(error, postgres.TRANSIENT_ERRORS) and not postgres.is_timeout(error):
                        raise
                    raise _Stumbled(event, place, error) from error
            return subscriptions.move(turn, seq)

    def hand(self, event: Event) -> None:
        """Hands over one event, in the transaction that is open."""
        with request_context.for_request(event.request_id):
            self.handle(event)

    def _note(self, turn: Claim, error: Exception | None) -> None:
        about = error.event if isinstance(error, _Stumbled) else None
        log.error(
            "a handler failed, it will be tried again",
            subscription=self.name,
            seq=about and about.seq,
            id=about and str(about.id),
            attempts=max(1, turn.attempts),
            exc_info=error,
        )
        subscriptions.note(turn, str(error) if about else _words(error))

    def _give_up(self, turn: Claim) -> bool:
        """Leaves the next event out, where an operator finds it, so that the others can be read."""
        why = turn.error or "its process died over it"
        with transaction():
            if not subscriptions.hold(turn):
                return False
            events, seq = subscriptions.ahead(turn, self.types, 1)
            for event in events:
                subscriptions.miss(turn, event, why)
                log.error(
                    "an event was given up",
                    subscription=self.name,
                    seq=event.seq,
                    id=str(event.id),
                    type=event.type,
                    attempts=TRIES,
                    error=why,
                )
            subscriptions.move(turn, seq)
        return True


class _Hints:
    """Listens on the channel for something new; what is said there is in the log, so it may get lost."""

    def __init__(self, redis_client: Redis) -> None:
        self._wire = redis_client
        self._line: PubSub | None = None
        self._silent = 0

    def wait(self, told: threading.Event) -> None:
        """Until there is something new, for a second at most."""
        try:
            if self._line is None:
                # The answer to it is a hint as well: something may have been said before.
                self._line = self._wire.pubsub()  # type: ignore[no-untyped-call]
                self._line.subscribe(CHANNEL)
            if self._line.get_message(timeout=_LOOK) is None:
                self._silent += 1
                if self._silent == _SILENT:
                    self.close()
                return
            self._silent = 0
            told.wait(_GATHER)
            while self._line.get_message() is not None:
                pass
        except redis.Unreachable:
            self.close()
            told.wait(_LOOK)

    def close(self) -> None:
        """Stops listening."""
        self._silent = 0
        if self._line is not None:
            self._line.close()
            self._line = None


def _words(error: BaseException | None) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}"
