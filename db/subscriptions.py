"""Who reads the event log: how far each handler has come, and the events that it gave up."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import event_log, postgres
from db.event_log import Event

# A place is moved past events that are not its own only when there are so many: else every event would cost
# every handler a write.
_PASSED_BY = 1000
# How much of the log one reading looks through: it must end within a statement's time.
_STRIDE = 10_000

# A quarter of a second, doubling to five minutes, with jitter.
_WAIT = "least(300, 0.25 * 2 ^ {attempts}) * (0.5 + random() / 2) * interval '1 second'"
_FIRST_WAIT = _WAIT.format(attempts=1)


class Subscription(postgres.Model):
    """One handler's place in the event log."""

    name = peewee.CharField(100, primary_key=True)
    seq = peewee.BigIntegerField()
    attempts = peewee.IntegerField(constraints=[SQL("DEFAULT 0")])
    due_at = DateTimeTZField(constraints=postgres.CLOCK)
    error = peewee.TextField(null=True)
    moved_at = DateTimeTZField(constraints=postgres.CLOCK)

    class Meta:
        schema = "admin"
        table_name = "subscriptions"


class MissedEvent(postgres.Model):
    """An event that a handler gave up after its last try."""

    name = peewee.CharField(100)
    seq = peewee.BigIntegerField()
    error = peewee.TextField()
    given_up_at = DateTimeTZField(constraints=postgres.CLOCK)

    class Meta:
        schema = "admin"
        table_name = "missed_events"
        primary_key = peewee.CompositeKey("name", "seq")


@dataclass(frozen=True)
class Claim:
    """A handler's turn: from which place on, at which try, and what went wrong at the last one."""

    name: str
    seq: int
    attempts: int
    error: str | None


# None stands for every type there is.
Types = Collection[str] | None


def begin(names: Sequence[str], after: int | None) -> None:
    """Gives a place to each of these that has none: behind `after`, or at the end of the log."""
    postgres.rows(
        "INSERT INTO admin.subscriptions (name, seq)"
        " SELECT name, coalesce(%s, (SELECT max(seq) FROM admin.events), 0) FROM unnest(%s) AS name"
        " WHERE NOT EXISTS (SELECT FROM admin.subscriptions s WHERE s.name = name.name)"
        " ON CONFLICT DO NOTHING",
        after,
        list(names),
    )


def claim(name: str, types: Types) -> Claim | None:
    """Takes a turn, if there is something for it and it is due; None also while another has it.

    The try is counted before it is made: one that kills its process counts as well. Until it is made or
    noted, nobody else gets the turn for a moment.
    """
    wanted = None if types is None else list(types)
    found = postgres.rows(
        "UPDATE admin.subscriptions SET attempts = attempts + 1,"
        f" due_at = clock_timestamp() + {_WAIT.format(attempts='(attempts + 1)')}"
        " WHERE name = (SELECT name FROM admin.subscriptions s WHERE name = %s"
        " AND due_at <= clock_timestamp()"
        " AND (EXISTS (SELECT FROM admin.events e WHERE e.seq > s.seq"
        " AND (%s::text[] IS NULL OR e.type = ANY(%s::text[])))"
        " OR (SELECT max(seq) FROM admin.events) >= s.seq + %s)"
        " FOR UPDATE SKIP LOCKED) RETURNING name, seq, attempts, error",
        name,
        wanted,
        wanted,
        _PASSED_BY,
    )
    return Claim(**found[0]) if found else None


def hold(turn: Claim) -> bool:
    """Keeps the turn to the end of the transaction; False when it went to another meanwhile."""
    return bool(
        postgres.rows(
            "SELECT FROM admin.subscriptions WHERE name = %s AND seq = %s AND attempts = %s"
            " FOR UPDATE SKIP LOCKED",
            turn.name,
            turn.seq,
            turn.attempts,
        )
    )


def ahead(turn: Claim, types: Types, limit: int) -> tuple[Sequence[Event], int]:
    """The next events of these types, in order, and the place behind them and all that is not for it.

    What is not published yet is among them: a number is visible only with all numbers before it.
    """
    end = min(event_log.last_seq(), turn.seq + _STRIDE)
    query = Event.select().where(Event.seq > turn.seq, Event.seq <= end)
    if types is not None:
        query = query.where(Event.type.in_(list(types)))
    found = list(query.order_by(Event.seq).limit(limit))
    return found, found[-1].seq if len(found) == limit else end


def move(turn: Claim, seq: int) -> Claim:
    """Everything up to `seq` is done with. The turn is held; gives the one that follows."""
    postgres.rows(
        "UPDATE admin.subscriptions SET seq = %s, attempts = 0, error = NULL, due_at = clock_timestamp(),"
        " moved_at = clock_timestamp() WHERE name = %s",
        seq,
        turn.name,
    )
    return replace(turn, seq=seq, attempts=0, error=None)


def note(turn: Claim, error: str) -> None:
    """Notes what went wrong at this turn and puts the next try off; nothing when another has got on."""
    attempts = max(1, turn.attempts)
    postgres.rows(
        "UPDATE admin.subscriptions SET error = %s, attempts = %s,"
        f" due_at = clock_timestamp() + {_WAIT.format(attempts='%s')}"
        " WHERE name = %s AND seq = %s AND attempts = %s",
        _short(error),
        attempts,
        attempts,
        turn.name,
        turn.seq,
        turn.attempts,
    )


def give_back(turn: Claim) -> None:
    """The try was none, for nothing is wrong with the event; the next one comes in a moment."""
    postgres.rows(
        f"UPDATE admin.subscriptions SET attempts = attempts - 1, due_at = clock_timestamp() + {_FIRST_WAIT}"
        " WHERE name = %s AND seq = %s AND attempts = %s",
        turn.name,
        turn.seq,
        turn.attempts,
    )


def miss(turn: Claim, event: Event, error: str) -> None:
    """Writes down that this event was given up."""
    missed = MissedEvent.insert(name=turn.name, seq=event.seq, error=_short(error))
    missed.on_conflict_ignore().execute()


def missed(names: Sequence[str] | None = None) -> list[MissedEvent]:
    """What was given up and waits for a person: all of it, or what these handlers gave up."""
    query = MissedEvent.select().order_by(MissedEvent.name, MissedEvent.seq)
    return list(query if names is None else query.where(MissedEvent.name.in_(names)))


def take_missed(missed: MissedEvent) -> Event | None:
    """Takes an event that was given up off the list, with the transaction; None when another does."""
    taken = postgres.rows(
        "DELETE FROM admin.missed_events WHERE (name, seq) = (SELECT name, seq FROM admin.missed_events"
        " WHERE name = %s AND seq = %s FOR UPDATE SKIP LOCKED) RETURNING seq",
        missed.name,
        missed.seq,
    )
    found: Event | None = Event.get_or_none(Event.seq == missed.seq) if taken else None
    return found


def _short(error: str) -> str:
    return error.replace("\0", "")[:500]
