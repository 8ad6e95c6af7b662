"""Who gets which events by a stream, from where on, and when it ends."""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from falcon.testing import create_environ
from freezegun import freeze_time

from actors import events
from actors.events import EventType
from actors.jobs import transaction
from api.app import create_app
from api.events import feed
from api.http.operation import IS_AWAITED
from db import one_time_tokens, users
from db.core import times
from db.users import Role
from tests.makers import error, visitor, work
from tests.tables import last_seq


@dataclass(frozen=True)
class Received:
    id: int
    type: str
    message: dict[str, Any]

    @property
    def about(self) -> str:
        return str(self.message["data"]["id"])


def parse(text: str) -> list[Received]:
    """The events of a stream, as EventSource reads them."""
    found: list[Received] = []
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        if not line and "data" in fields:
            found.append(Received(int(fields["id"]), fields["event"], json.loads(fields["data"])))
        if not line:
            fields = {}
        name, _, value = line.partition(":")
        fields[name] = value.removeprefix(" ")
    return found


def received(caller, after: int | None = None, **more: Any) -> list[Received]:
    """The events that a stream has until nothing is new."""
    query = {} if after is None else {"lastEventId": str(after)}
    result = caller.get("/events/stream", params=query, **more)
    assert result.status_code == 200, result.text
    return parse(result.text)


class Open:
    """A stream whose client reads piece by piece."""

    def __init__(self, app, caller, after: int | None = None, *, environ: Any = None) -> None:
        headers = {"Authorization": f"Bearer {caller.token}"} if caller.token else {}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        env = {**create_environ("/api/events/stream", headers=headers), **(environ or {})}
        self.pieces = app(env, lambda *_head: None)
        assert next(self.pieces).startswith(b": connected\nretry: ")

    def next(self) -> list[Received]:
        return parse(next(self.pieces).decode())

    def rest(self) -> list[int]:
        """The ids of all further events."""
        return [one.id for one in parse(b"".join(self.pieces).decode())]

    def has_ended(self) -> bool:
        return next(self.pieces, None) is None


def pay(caller, **body: Any) -> str:
    """A payment that has completed; its id."""
    id = caller.post("/payments", {"type": "payment", "amount": "12.50", **body}).json["data"]["id"]
    work()
    return str(id)


def ask(vendor, **body: Any) -> str:
    """A payment request; its id."""
    id = vendor.post("/payments", {"type": "initiate", "amount": "80", **body}).json["data"]["id"]
    work()
    return str(id)


def announce(number: int) -> None:
    """An event that only administrators see."""
    with transaction():
        events.emit(
            EventType.CONFIG_UPDATED, {"changes": {"payments.maxAmount": {"from": "1", "to": str(number)}}}
        )
    work()


@pytest.fixture
def start(database) -> int:
    return last_seq()


@pytest.fixture
def application(settings):
    """Its own for each test: streams share what their process has read."""
    return create_app(settings)


@pytest.fixture
def app(client):
    return client.app


def test_an_administrator_gets_every_event_as_the_log_has_it(client, admin, start):
    pay(visitor(client))
    announce(1)
    log = admin.get("/admin/events", params={"after": start, "limit": 100}).json["data"]["items"]
    got = received(admin, start)
    assert [one.message for one in got] == log
    assert [(one.id, one.type) for one in got] == [(item["seq"], item["type"]) for item in log]
    assert {one.type for one in got} > {EventType.PAYMENT_COMPLETED, EventType.CONFIG_UPDATED}


def test_a_customer_gets_the_events_of_own_payments_alone(client, customer, start):
    own, _other = pay(customer), pay(visitor(client))
    announce(1)
    got = received(customer, start)
    assert [one.type for one in got] == [
        "payments:payment:created",
        "payments:payment:updated",
        "payments:payment:updated",
        "payments:payment:completed",
    ]
    assert {one.about for one in got} == {own}


def test_a_vendor_gets_the_events_of_own_requests_with_their_payments(client, vendor, customer, start):
    request, _other = ask(vendor), ask(visitor(client, Role.VENDOR))
    payment = pay(customer, requestId=request, amount="80.00")
    assert {one.about for one in received(vendor, start)} == {request, payment}
    # Of somebody else's request, a customer gets the own payment.
    assert {one.about for one in received(customer, start)} == {payment}


def test_a_customer_gets_the_events_of_requests_that_are_addressed_to_them(client, vendor, start):
    customer = visitor(client)
    users.change(UUID(customer.user["id"]), email_verified=True)
    request = ask(vendor, customerEmail=customer.user["email"])
    assert {one.about for one in received(customer, start)} == {request}
    assert received(visitor(client), start) == []


def test_without_a_last_event_a_stream_begins_now(client, app, admin, start):
    announce(1)
    stream = Open(app, admin)
    announce(2)
    assert [one.message["data"]["changes"]["payments.maxAmount"]["to"] for one in stream.next()] == ["2"]
    assert stream.has_ended()


def test_a_stream_goes_on_after_the_last_event_without_a_gap_or_a_repeat(
    client, app, admin, start, monkeypatch
):
    monkeypatch.setattr(feed, "_LOG_PAGE", 2)
    for number in range(5):
        announce(number)
    stream = Open(app, admin, start + 1)
    first = [one.id for one in stream.next()]
    # Comes while the stream still reads the log.
    announce(5)
    assert first + stream.rest() == list(range(start + 2, start + 7))


def test_the_header_says_more_than_the_query(admin, start):
    """EventSource repeats the address, and adds the header, when it connects again."""
    announce(1)
    announce(2)
    newer = admin.get(
        "/events/stream", params={"lastEventId": str(start)}, headers={"Last-Event-ID": str(start + 1)}
    )
    assert [one.id for one in parse(newer.text)] == [start + 2]
    assert newer.headers["Last-Event-ID"] == str(start + 1)


def test_after_a_restore_a_stream_begins_at_the_end_of_the_log(admin, start):
    announce(1)
    result = admin.get("/events/stream", headers={"Last-Event-ID": str(start + 1000)})
    assert (result.status_code, parse(result.text)) == (200, [])
    assert result.headers["Last-Event-ID"] == str(start + 1)


@pytest.mark.parametrize("value", ["x", "-1", "1.5", str(2**63)])
def test_a_last_event_that_is_no_number_is_refused(admin, value):
    for result in (
        admin.get("/events/stream", headers={"Last-Event-ID": value}),
        admin.get("/events/stream", params={"lastEventId": value}),
    ):
        assert error(result) == (400, "VALIDATION_ERROR")


def test_a_stream_is_not_stored_or_held_back_on_the_way(admin):
    head = admin.get("/events/stream").headers
    assert head["Content-Type"] == "text/event-stream"
    assert (head["Cache-Control"], head["X-Accel-Buffering"]) == ("no-store", "no")
    assert "ETag" not in head


def end_session(caller) -> None:
    caller.post("/auth/logout")


def change_role(caller) -> None:
    users.change(UUID(caller.user["id"]), role=Role.VENDOR)


def suspend(caller) -> None:
    users.change(UUID(caller.user["id"]), active=False)


@pytest.mark.parametrize("change", [end_session, change_role, suspend])
def test_a_stream_ends_with_its_session_before_another_event(app, customer, start, monkeypatch, change):
    monkeypatch.setattr(feed, "_READ_SESSIONS_EVERY_S", 0)
    stream = Open(app, customer)
    pay(customer)
    assert len(stream.next()) == 4
    pay(customer)
    change(customer)
    assert stream.has_ended()


def test_a_stream_ends_with_the_longest_time_of_a_session(make_client, database, start):
    client = make_client(SESSION_MAX_AGE="1h")
    customer = visitor(client)
    stream = Open(client.app, customer)
    pay(customer)
    assert len(stream.next()) == 4
    pay(customer)
    with freeze_time(times.now() + timedelta(hours=1)):
        assert stream.has_ended()


def test_a_stream_ends_when_nobody_waits_for_it(app, customer):
    answers = iter([True, False])
    stream = Open(app, customer, environ={IS_AWAITED: lambda: next(answers)})
    pay(customer)
    assert stream.has_ended()


def test_a_slow_reader_holds_little_memory_yet_gets_every_event(app, admin, start, monkeypatch):
    monkeypatch.setattr(feed, "MAX_WAITING", 3)
    monkeypatch.setattr(feed, "_LOG_PAGE", 4)
    stream = Open(app, admin)
    for number in range(20):
        announce(number)
    assert stream.rest() == list(range(start + 1, start + 21))


def test_a_user_may_open_only_so_many_streams(app, customer, admin, monkeypatch):
    monkeypatch.setattr(feed, "MAX_STREAMS_OF_USER", 1)
    first = Open(app, customer)
    pay(customer)
    assert first.next()
    refused = customer.get("/events/stream")
    assert error(refused) == (429, "RATE_LIMITED")
    assert refused.headers["Retry-After"]
    assert admin.get("/events/stream").status_code == 200
    first.pieces.close()
    assert customer.get("/events/stream").status_code == 200


def ticket_of(caller) -> str:
    data = caller.post("/events/ticket").json["data"]
    assert data["expiresIn"] == 60
    return str(data["ticket"])


def test_a_ticket_opens_one_stream_of_its_session(client, customer, start):
    stranger, own = visitor(client), pay(customer)
    ticket = ticket_of(customer)
    opened = client.simulate_get("/api/events/stream", params={"ticket": ticket, "lastEventId": str(start)})
    assert {one.about for one in parse(opened.text)} == {own}
    again = client.simulate_get("/api/events/stream", params={"ticket": ticket})
    assert error(again) == (401, "UNAUTHORIZED")
    assert again.json["error"]["details"] == {"reason": "token_invalid"}
    # A ticket opens nothing else.
    assert client.simulate_get("/api/auth/me", params={"ticket": ticket_of(customer)}).status_code == 401
    assert stranger.get("/events/stream", params={"ticket": ticket_of(customer)}).status_code == 200


@pytest.mark.parametrize("change", [end_session, suspend])
def test_a_ticket_ends_with_its_session(client, customer, change):
    ticket = ticket_of(customer)
    change(customer)
    refused = client.simulate_get("/api/events/stream", params={"ticket": ticket})
    assert (refused.status_code, refused.json["error"]["details"]["reason"]) == (401, "token_revoked")


def test_a_ticket_of_another_session_cannot_be_made_of_ones_own(client, customer):
    own = ticket_of(customer)
    forged = ticket_of(visitor(client))[:20] + own[20:]
    assert client.simulate_get("/api/events/stream", params={"ticket": forged}).status_code == 401


def test_a_ticket_works_for_a_minute(client, customer):
    ticket = ticket_of(customer)
    expired = times.now() - timedelta(seconds=1)
    one_time_tokens.OneTimeToken.update(expires_at=expired).execute()
    assert client.simulate_get("/api/events/stream", params={"ticket": ticket}).status_code == 401
    assert client.simulate_get("/api/events/stream", params={"ticket": "x"}).status_code == 401
