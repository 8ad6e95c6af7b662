"""An administrator sees the events that a subscriber gave up, has them handled again, or drops them."""

from uuid import UUID

import pytest

from actors import event_handlers
from db import audit_log, event_log, postgres, subscriptions
from tests import makers
from tests.makers import error, invalid_fields, work
from tests.tables import MissedEvent

MAILS, CONFIG = (subscriber.name for subscriber in event_handlers.SUBSCRIBERS[:2])


def missed(name: str = MAILS) -> event_log.Event:
    """An event about a completed payment that the subscriber gave up."""
    payment = makers.payment()
    work()
    [event] = event_log.Event.select().where(
        event_log.Event.type == "payments:payment:completed", event_log.Event.data["id"] == str(payment.id)
    )
    MissedEvent.insert(name=name, seq=event.seq, error="it broke").execute()
    makers.mailbox.clear()
    return event


def entries(action: str) -> list[audit_log.AuditLog]:
    work()
    return list(audit_log.AuditLog.select().where(audit_log.AuditLog.action == action))


def test_missed_events_are_listed_with_their_event(admin):
    event = missed()
    [item] = admin.get(f"/admin/missed-events?subscriber={MAILS}").json["data"]["items"]
    assert (item["subscriber"], item["seq"], item["type"]) == (MAILS, event.seq, event.type)
    assert (item["error"], item["event"]["id"]) == ("it broke", str(event.id))
    assert admin.get(f"/admin/missed-events?subscriber={CONFIG}").json["data"]["items"] == []


def test_a_missed_event_is_shown_as_the_event_log_shows_it(admin):
    event = missed()
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    postgres.rows("UPDATE admin.event_log SET trace = %s", trace)
    [item] = admin.get("/admin/missed-events").json["data"]["items"]
    [logged] = admin.get(f"/admin/events?after={event.seq - 1}&limit=1").json["data"]["items"]
    assert item["event"] == logged
    assert logged["traceparent"] == trace


def test_the_last_one_is_first_on_the_first_page(admin):
    events = [missed(), missed(), missed(CONFIG)]
    first = admin.get("/admin/missed-events?limit=2").json["data"]
    cursor = first["pagination"]["nextCursor"]
    rest = admin.get(f"/admin/missed-events?limit=2&cursor={cursor}").json["data"]
    seqs = [item["seq"] for item in first["items"] + rest["items"]]
    assert seqs == [event.seq for event in reversed(events)]
    assert rest["pagination"]["nextCursor"] is None


def test_a_missed_event_is_handled_again(admin):
    event = missed()
    result = admin.post(f"/admin/missed-events/{MAILS}/{event.seq}/retry")
    assert result.json["data"] == {"retried": 1, "failed": 0}
    assert admin.get("/admin/missed-events").json["data"]["items"] == []
    [entry] = entries("admin.events.replayed")
    assert (entry.resource_id, entry.details) == (event.id, {"subscriber": MAILS, "seq": event.seq})
    assert str(entry.user_id) == admin.user["id"]
    assert len(makers.mailbox) == 1


def test_an_event_that_fails_again_stays_missed(admin, monkeypatch):
    event = missed()

    def fail(_event: event_log.Event) -> None:
        raise ValueError("it broke again")

    broken = subscriptions_with(fail)
    monkeypatch.setattr(event_handlers, "SUBSCRIBERS", broken)
    result = admin.post(f"/admin/missed-events/{MAILS}/{event.seq}/retry")
    assert result.json["data"] == {"retried": 0, "failed": 1}
    [item] = admin.get("/admin/missed-events").json["data"]["items"]
    assert "it broke again" in item["error"]
    assert admin.post("/admin/missed-events/retry", {"subscriber": MAILS}).json["data"]["failed"] == 1


def test_an_event_that_another_request_retries_at_this_moment_has_not_failed(admin, monkeypatch):
    event = missed()
    monkeypatch.setattr(subscriptions, "claim_missed", lambda _name, _seq: None)
    for result in (
        admin.post(f"/admin/missed-events/{MAILS}/{event.seq}/retry"),
        admin.post("/admin/missed-events/retry", {"subscriber": MAILS}),
    ):
        assert result.json["data"] == {"retried": 0, "failed": 0}


def subscriptions_with(handler):
    mails = event_handlers.SUBSCRIBERS[0]
    return [type(mails)(mails.name, handler, mails.types)]


def test_all_missed_events_of_a_subscriber_are_retried(admin):
    events, other = [missed(), missed()], missed(CONFIG)
    result = admin.post("/admin/missed-events/retry", {"subscriber": MAILS})
    assert result.json["data"] == {"retried": 2, "failed": 0}
    [left] = admin.get("/admin/missed-events").json["data"]["items"]
    assert left["seq"] == other.seq
    assert {entry.resource_id for entry in entries("admin.events.replayed")} == {
        UUID(str(event.id)) for event in events
    }


def test_a_missed_event_is_dropped(admin):
    event = missed()
    assert admin.send("DELETE", f"/admin/missed-events/{MAILS}/{event.seq}").status_code == 200
    assert admin.get("/admin/missed-events").json["data"]["items"] == []
    [entry] = entries("admin.event.dropped")
    assert (entry.resource_id, entry.details) == (event.id, {"subscriber": MAILS, "seq": event.seq})
    assert makers.mailbox == []


@pytest.mark.parametrize("seq", ["0", "7000000", "-1", "x", "9" * 30, "%00", "1.5"])
def test_an_event_that_was_not_given_up_is_not_found(admin, seq):
    assert error(admin.post(f"/admin/missed-events/{MAILS}/{seq}/retry")) == (404, "NOT_FOUND")
    assert error(admin.send("DELETE", f"/admin/missed-events/{MAILS}/{seq}")) == (404, "NOT_FOUND")


def test_an_unknown_subscriber_is_not_found(admin):
    event = missed("subscribers.of_an_older_release")
    path = f"/admin/missed-events/subscribers.of_an_older_release/{event.seq}"
    assert error(admin.post(f"{path}/retry")) == (404, "NOT_FOUND")
    assert error(admin.post("/admin/missed-events/retry", {"subscriber": "nobody"})) == (404, "NOT_FOUND")
    assert error(admin.post("/admin/missed-events/a%00b/1/retry"))[0] in (400, 404)
    # What nobody handles any more can be dropped.
    assert admin.send("DELETE", path).status_code == 200


def test_a_subscriber_has_to_be_named(admin):
    assert invalid_fields(admin.post("/admin/missed-events/retry", {})) == {"subscriber"}
