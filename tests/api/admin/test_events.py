"""The event log at the door: what was said on the channel, for those who were away."""

import json
from typing import Any

import pytest

from actors import broker, events
from db import event_log
from db.users import Role
from tests import makers
from tests.makers import Visitor, error, visitor, work


@pytest.fixture
def boss(client) -> Visitor:
    who = visitor(client, Role.ADMIN)
    work()
    return who


def read(boss: Visitor, **asked: int) -> list[dict[str, Any]]:
    result = boss.get("/admin/events", params=asked)
    assert result.status_code == 200, result.text
    assert result.json["data"].keys() == {"items"}
    return result.json["data"]["items"]


def test_the_log_has_the_messages_of_the_channel_oldest_first(boss):
    before = event_log.last_seq()
    with broker.current().client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(events.CHANNEL)
        channel.get_message(timeout=5)
        makers.payment(simulate="decline")
        work()
        said = [json.loads(channel.get_message(timeout=5)["data"]) for _ in range(4)]
    assert read(boss, after=before) == said
    assert [it["type"].rpartition(":")[2] for it in said] == ["created", "updated", "updated", "failed"]
    assert [it["seq"] for it in said] == [before + 1, before + 2, before + 3, before + 4]


def test_who_goes_on_behind_the_last_seq_reads_every_event_once(boss):
    for _ in range(3):
        makers.payment()
    work()
    place, found = 0, []
    while items := read(boss, after=place, limit=5):
        assert len(items) <= 5
        found += items
        place = items[-1]["seq"]
    assert [it["seq"] for it in found] == [event.seq for event in event_log.after(0, 1000)]
    assert len({it["id"] for it in found}) == len(found)
    assert read(boss, after=place) == read(boss, after=2**63 - 1) == []


def test_twenty_are_read_from_the_beginning_unless_more_are_asked_for(boss):
    for _ in range(8):
        makers.payment()
    work()
    assert read(boss) == read(boss, after=0, limit=100)[:20]
    assert len(read(boss, limit=100)) > 20


def test_what_waits_for_redis_can_be_read(boss):
    makers.payment()
    work()
    event_log.Event.update(published_at=None).execute()
    assert read(boss)


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", "after=1.5", f"after={2**63}", "limit=0", "limit=101", "cursor=x"],
)
def test_a_wrong_question_is_refused(boss, query):
    result = boss.get("/admin/events", query_string=query)
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [it["field"] for it in result.json["error"]["details"]["fields"]] == [query.partition("=")[0]]


@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.VENDOR])
def test_the_log_is_for_operators(client, role):
    assert error(visitor(client, role).get("/admin/events")) == (403, "FORBIDDEN")
