"""What the installation did in each quarter of a minute, as the scheduler records it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors import housekeeping, queue_state
from api.operations import request_counts
from db import postgres, redis, samples, shared_counts
from db.core import times
from db.users import Role
from tests import makers
from tests.makers import Visitor, visitor, work
from tests.tables import JobRow, SampleRow
from workers import scheduler

QUARTER = timedelta(seconds=15)
AT = samples.last_end(datetime.now(UTC))


@pytest.fixture
def redis_client(stores) -> redis.Client:
    client = redis.connect(stores["REDIS_URL"])
    shared_counts.take_recent(client)
    request_counts._counted.clear()
    queue_state._finished.clear()
    return client


@pytest.fixture
def admin(client) -> Visitor:
    return visitor(client, Role.ADMIN)


@pytest.fixture(autouse=True)
def noon(monkeypatch) -> None:
    """The scheduler's clock stands at the time at which it records the sample of the quarter until AT."""
    monkeypatch.setattr(times, "now", lambda: AT + timedelta(seconds=samples.DELAY_S))


def add(at: datetime, *, counted: bool = True, **figures: Any) -> None:
    SampleRow.create(at=at, counted=counted, **{"settled": 0, "lag_ms": 0, **figures})


def record(client: redis.Client) -> SampleRow:
    scheduler.record_sample(client)
    return SampleRow.get_by_id(AT)


def answer(client: redis.Client, status: int, *durations_s: float) -> None:
    """Counts requests as the web process does."""
    for duration_s in durations_s:
        request_counts.count("GET", "/api/x", status=status, duration_s=duration_s)
    request_counts.flush(client)


def test_a_sample_counts_the_requests_of_its_quarter(database, redis_client):
    add(AT - QUARTER)
    answer(redis_client, 200, *[0.015] * 18)
    answer(redis_client, 404, 0.015)
    answer(redis_client, 503, 0.3)
    sample = record(redis_client)
    assert (sample.requests, sample.errors, sample.p95_ms) == (20, 1, 20)


def test_the_next_sample_begins_at_zero(database, redis_client, monkeypatch):
    add(AT - QUARTER)
    answer(redis_client, 500, 0.1)
    record(redis_client)
    monkeypatch.setattr(times, "now", lambda: AT + QUARTER + timedelta(seconds=3))
    scheduler.record_sample(redis_client)
    after = SampleRow.get_by_id(AT + QUARTER)
    assert (after.requests, after.errors, after.p95_ms) == (0, 0, None)


def test_what_was_counted_while_no_scheduler_led_belongs_to_no_quarter(database, redis_client):
    add(AT - 2 * QUARTER)
    answer(redis_client, 200, *[0.01] * 500)
    sample = record(redis_client)
    assert (sample.requests, sample.errors, sample.finished, sample.counted) == (None, None, None, True)


def test_without_redis_a_sample_has_no_counts_but_the_rest(database, redis_client):
    add(AT - QUARTER)
    sample = record(redis.connect("redis://127.0.0.1:1"))
    assert (sample.requests, sample.counted, sample.settled) == (None, False, 0)


def test_the_counts_of_an_outage_of_redis_belong_to_no_quarter(database, redis_client):
    add(AT - QUARTER, counted=False)
    answer(redis_client, 200, *[0.01] * 500)
    assert record(redis_client).requests is None


def test_a_flushed_redis_gives_no_negative_count(database, redis_client):
    add(AT - QUARTER, requests=1000)
    answer(redis_client, 200, *[0.01] * 5)
    shared_counts.take_recent(redis_client)
    answer(redis_client, 200, 0.01)
    assert record(redis_client).requests == 1


def test_a_quarter_has_one_sample(database, redis_client):
    add(AT - QUARTER)
    add(AT, requests=7)
    assert record(redis_client).requests == 7


def test_a_sample_counts_settled_payments_and_no_requests(database, redis_client):
    request = makers.open_request()
    makers.pay(request)
    makers.payment(simulate="decline")
    work()
    makers.payment()
    assert makers.reload(request).status == "completed"
    samples.record(None, now := datetime.now(UTC))
    assert SampleRow.get_by_id(now).settled == 2


def test_the_lag_is_that_of_the_oldest_due_job(database):
    work()
    makers.payment()
    makers.payment()
    postgres.rows(
        "UPDATE journal.jobs SET created_at = created_at - interval '9 s', due_at = due_at - interval '9 s'"
    )
    assert 9_000 <= lag() < 20_000
    [row, *_] = JobRow.select()
    postgres.rows(
        "UPDATE journal.jobs SET sent_at = '-infinity', due_at = clock_timestamp() + interval '1 h'"
    )
    assert lag() == 0, "a job that is due later does not wait"
    postgres.rows("UPDATE journal.jobs SET due_at = clock_timestamp() - interval '2 s' WHERE id = %s", row.id)
    assert 2_000 <= lag() < 9_000
    postgres.rows("UPDATE journal.jobs SET leased_until = clock_timestamp() + interval '15 s'")
    assert lag() == 0, "a call that is under way does not wait"


def test_an_unpublished_event_is_a_lag_too(database):
    makers.payment()
    work()
    assert lag() < 7_000
    postgres.rows("UPDATE admin.events SET occurred_at = clock_timestamp() - interval '7 s'")
    postgres.rows("UPDATE admin.event_publication SET seq = (SELECT max(seq) - 1 FROM admin.events)")
    assert 7_000 <= lag() < 20_000


def lag() -> int:
    samples.record(None, now := datetime.now(UTC))
    return int(SampleRow.get_by_id(now).lag_ms)


def test_an_administrator_gets_one_item_for_each_quarter(admin, monkeypatch):
    add(AT, requests=20, errors=1, p95_ms=12.5, settled=3, lag_ms=40)
    monkeypatch.setattr(times, "now", lambda: AT + QUARTER + timedelta(seconds=9))
    items = admin.get("/admin/samples?minutes=1").json["data"]["items"]
    unknown = {"requests": None, "errors": None, "p95Ms": None, "settled": None, "lagMs": None}
    figures = {"requests": 20, "errors": 1, "p95Ms": 12.5, "settled": 3, "lagMs": 40}
    assert items == [
        {"at": times.iso(AT - 2 * QUARTER), **unknown},
        {"at": times.iso(AT - QUARTER), **unknown},
        {"at": times.iso(AT), **figures},
        {"at": times.iso(AT + QUARTER), **unknown},
    ]
    assert len(admin.get("/admin/samples").json["data"]["items"]) == 240


def test_a_quarter_is_shown_once_its_sample_can_be_there(admin, monkeypatch):
    monkeypatch.setattr(times, "now", lambda: AT + timedelta(seconds=7))
    [*_, last] = admin.get("/admin/samples?minutes=1").json["data"]["items"]
    assert last["at"] == times.iso(AT - QUARTER)


def test_samples_are_kept_for_a_day(database):
    day = timedelta(days=1)
    for at in (AT - day - QUARTER, AT - day + QUARTER, AT):
        add(at)
    makers.enqueue_scheduled(housekeeping.expire_samples)
    work()
    assert SampleRow.select().count() == 2


def test_finished_jobs_are_counted_by_queue(admin, redis_client):
    add(AT - QUARTER)
    makers.payment()
    makers.payment(simulate="decline")
    done = work()
    queue_state.flush_finished(redis_client)
    finished = record(redis_client).finished
    assert finished["psp"] == done.count("payments.charge") == 2
    assert finished["payments"] == sum(name in ("payments.begin", "payments.settle") for name in done)
    postgres.rows("UPDATE admin.samples SET finished = '{}' WHERE finished IS NULL")
    by_name = {each["name"]: each for each in admin.get("/admin/health").json["data"]["queueStatuses"]}
    assert (by_name["psp"]["finishedPerMinute"], by_name["mail"]["finishedPerMinute"]) == (4, 4)


def test_without_samples_the_rate_is_unknown(admin):
    [first, *_] = admin.get("/admin/health").json["data"]["queueStatuses"]
    assert first["finishedPerMinute"] is None
