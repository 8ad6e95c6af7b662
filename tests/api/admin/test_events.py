"""The event log, for subscribers that missed messages."""

import json
from typing import Any

import pytest

from actors import broker, events
from db import event_log
from db.users import Role
from tests import makers, tables
from tests.makers import Visitor, error, visitor, work


@pytest.fixture
def admin(client) -> Visitor:
    user = visitor(client, Role.ADMIN)
    work()
    return user


def read(admin: Visitor, **query: int) -> list[dict[str, Any]]:
    result = admin.get("/admin/events", params=query)
    assert result.status_code == 200, result.text
    assert result.json["data"].keys() == {"items"}
    return result.json["data"]["items"]


def test_the_log_has_the_messages_of_the_channel(admin):
    before = tables.last_seq()
    with broker.current().client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(events.CHANNEL)
        channel.get_message(timeout=5)
        makers.payment(simulate="decline")
        work()
        messages = [json.loads(channel.get_message(timeout=5)["data"]) for _ in range(4)]
    assert read(admin, after=before) == messages
    assert [message["type"].rpartition(":")[2] for message in messages] == [
        "created",
        "updated",
        "updated",
        "failed",
    ]
    assert [message["seq"] for message in messages] == [before + 1, before + 2, before + 3, before + 4]


def test_reading_after_the_last_seq_returns_every_event_once(admin):
    for _ in range(3):
        makers.payment()
    work()
    last_seq, found = 0, []
    while items := read(admin, after=last_seq, limit=5):
        assert len(items) <= 5
        found += items
        last_seq = items[-1]["seq"]
    assert [message["seq"] for message in found] == [event.seq for event in event_log.after(0, 1000)]
    assert len({message["id"] for message in found}) == len(found)
    assert read(admin, after=last_seq) == read(admin, after=2**63 - 1) == []


def test_twenty_events_are_returned_by_default(admin):
    for _ in range(8):
        makers.payment()
    work()
    assert read(admin) == read(admin, after=0, limit=100)[:20]
    assert len(read(admin, limit=100)) > 20


def test_unpublished_events_can_be_read(admin):
    makers.payment()
    work()
    tables.EventPublication.update(seq=0).execute()
    assert read(admin)


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", "after=1.5", f"after={2**63}", "limit=0", "limit=101", "cursor=x"],
)
def test_an_invalid_query_is_refused(admin, query):
    result = admin.get("/admin/events", query_string=query)
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == [
        query.partition("=")[0]
    ]


@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.VENDOR])
def test_only_admins_read_the_event_log(client, role):
    assert error(visitor(client, role).get("/admin/events")) == (403, "FORBIDDEN")
