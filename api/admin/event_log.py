"""The event log, and the events that a subscriber gave up after its last attempt."""

from typing import Annotated

from falcon import Request
from pydantic import Field

from actors import job_operations
from actors.events import Event
from api.http.fields import Digits, Query, RequestBody
from api.http.operation import Operation
from api.http.pages import PageQuery, ResponsePage
from api.security.permissions import Permission
from db import event_log, subscriptions
from db.core.errors import NotFound
from db.core.json_model import JsonModel, Timestamp
from db.subscriptions import ListedMissedEvent

SubscriberName = Annotated[
    str, Field(max_length=100, pattern="^[ -~]+$", examples=["subscribers.payment_mails"])
]
# Every number of at most so many digits is a bigint.
_SEQ_DIGITS = 18


class EventsQuery(Query):
    """`after` is the `seq` of the last event received, 0 for none."""

    # The largest bigint.
    after: Annotated[int, Digits] = Field(0, ge=0, le=2**63 - 1)
    limit: Annotated[int, Digits] = Field(20, ge=1, le=100)


class EventPage(JsonModel):
    """A part of the event log, oldest first."""

    items: list[Event]


class MissedEventsQuery(PageQuery):
    """Filters."""

    subscriber: SubscriberName | None = None


class MissedEvent(JsonModel):
    """An event that a subscriber gave up, with what went wrong at its last attempt."""

    subscriber: Annotated[str, Field(examples=["subscribers.payment_mails"])]
    seq: Annotated[int, Field(ge=1, examples=[276])]
    type: Annotated[str, Field(examples=["payments:payment:completed"])]
    error: Annotated[str, Field(examples=["ValueError: it broke"])]
    given_up_at: Timestamp
    event: Event

    @classmethod
    def of(cls, missed: ListedMissedEvent) -> "MissedEvent":
        """Returns the response for an event that a subscriber gave up."""
        return cls(
            subscriber=missed.name,
            seq=missed.event.seq,
            type=missed.event.type,
            error=missed.error,
            given_up_at=missed.created_at,
            event=Event.model_validate(missed.event),
        )


class MissedEventPage(ResponsePage[MissedEvent]):
    """One page of missed events, the one that was given up last first."""


class MissedEventsOfSubscriber(RequestBody):
    """Whose missed events are retried."""

    subscriber: SubscriberName


class RetriedEvents(JsonModel):
    """How many events were handled, and how many failed again."""

    retried: Annotated[int, Field(ge=0, examples=[3])]
    failed: Annotated[int, Field(ge=0, examples=[0])]


@Operation(Permission.OPERATE, "Events.")
def list_events(_req: Request, query: EventsQuery) -> EventPage:
    """List events.

    Returns the events after the one whose `seq` is `after`, oldest first, also those that are not
    published yet because Redis is down. The `seq` of the last item is the next `after`.
    """
    log = event_log.after(query.after, query.limit)
    return EventPage(items=[Event.model_validate(event) for event in log])


@Operation(Permission.OPERATE, "Missed events.")
def list_missed_events(_req: Request, query: MissedEventsQuery) -> MissedEventPage:
    """List missed events.

    The events that a subscriber of the services gave up after its last attempt.
    """
    page = subscriptions.missed_page(query.subscriber, limit=query.limit, after=query.after)
    return MissedEventPage.of(page, MissedEvent.of)


@Operation(Permission.OPERATE, "Missed events retried.", errors=(NotFound,))
def retry_missed_events(_req: Request, body: MissedEventsOfSubscriber) -> RetriedEvents:
    """Retry the missed events of a subscriber.

    The subscriber handles them before the response, the oldest first, at most 1,000. One that fails again
    remains missed.
    """
    retried, failed = job_operations.retry_missed_events(body.subscriber)
    return RetriedEvents(retried=retried, failed=failed)


@Operation(Permission.OPERATE, "Missed event dropped.", errors=(NotFound,))
def drop_missed_event(_req: Request, subscriber: str, seq: str) -> None:
    """Drop a missed event.

    The subscriber never handles it. The event stays in the event log.
    """
    job_operations.drop_missed_event(subscriber, _number(seq))


@Operation(Permission.OPERATE, "Missed event retried.", errors=(NotFound,))
def retry_missed_event(_req: Request, subscriber: str, seq: str) -> RetriedEvents:
    """Retry a missed event.

    The subscriber handles it before the response. If it fails again, `failed` is 1 and it remains missed.
    Both counts are 0 if another request handles it at this moment.
    """
    retried, failed = job_operations.retry_missed_event(subscriber, _number(seq))
    return RetriedEvents(retried=retried, failed=failed)


def _number(seq: str) -> int:
    if not seq.isascii() or not seq.isdigit() or len(seq) > _SEQ_DIGITS:
        raise NotFound(thing="missed event")
    return int(seq)
