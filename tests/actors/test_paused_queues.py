"""A paused queue loses nothing: its jobs wait, count no attempts, and are done when it is resumed."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from actors import batch_jobs, broker
from actors.batch_jobs import BatchEntry, batch_job
from actors.external_jobs import external_job
from actors.jobs import JobKind, enqueue, transaction, transactional_job
from db import config, invariants, job_journal, postgres
from db.config import ConfigKey
from db.core import times
from tests import makers
from tests.tables import JobRow
from workers import main, relay

QUEUE, OTHER = "test-pausable", "test-other"

done: list[str] = []
# What happens while a job is done.
meanwhile: list[Callable[[], object]] = []


def work_done(name: str) -> None:
    done.append(name)
    if meanwhile:
        meanwhile.pop()()


@transactional_job("test_paused.transactional", queue=QUEUE)
def transactional() -> None:
    work_done("transactional")


class Entry(BatchEntry):
    pass


@batch_job("test_paused.batch", Entry, queue=QUEUE)
def batch(entries: Sequence[Entry]) -> None:
    for _entry in entries:
        work_done("batch")


@batch_job("test_paused.ordered", Entry, queue=QUEUE, ordered=True)
def ordered(entries: Sequence[Entry]) -> None:
    for _entry in entries:
        work_done("ordered")


@external_job("test_paused.external", queue=QUEUE)
def external() -> None:
    work_done("external")


@transactional_job("test_paused.other", queue=OTHER)
def other() -> None:
    work_done("other")


KINDS: list[JobKind] = [transactional, batch, ordered, external]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(autouse=True)
def clean(database: None) -> Iterator[None]:
    broker.current().client.flushdb()
    postgres.rows("DELETE FROM journal.jobs")
    done.clear()
    meanwhile.clear()
    yield
    pause()


def pause(*queues: str) -> None:
    """Pauses these queues, and resumes all others."""
    with postgres.connection():
        config.update({ConfigKey.QUEUES_PAUSED: list(queues)}, by=makers.user().id)
        config.clear_cache()
        main.refresh_pauses()


def enqueued(kind: JobKind, count: int = 1) -> list[job_journal.Job]:
    """Jobs of this kind, without their messages in Redis."""
    made = [kind.job(Entry()) if isinstance(kind, batch_jobs.BatchJob) else kind.job() for _ in range(count)]  # type: ignore[attr-defined]
    with transaction():
        for job in made:
            enqueue(job)
    broker.current().client.flushdb()
    return made


def attempts() -> list[int]:
    return [row.attempts for row in JobRow.select().order_by(JobRow.position)]


def messages(queue: str = QUEUE) -> list[str]:
    """The ids of the messages that a worker would fetch."""
    consumer, found = broker.current().consume(queue, prefetch=10, timeout=1), []
    while message := next(consumer):
        found.append(message.message_id)
        consumer.ack(message)
    return found


def make_overdue() -> None:
    postgres.rows("UPDATE journal.jobs SET due_at = clock_timestamp() - interval '1 hour'")


@every_kind
def test_a_message_that_was_fetched_before_the_pause_is_sent_again_when_the_queue_is_resumed(kind):
    [job] = enqueued(kind)
    pause(QUEUE)
    kind(str(job.id))
    assert (done, attempts(), messages()) == ([], [0], [])
    pause()
    for id in messages():
        kind(id)
    assert done == [kind.name.removeprefix("test_paused.")]
    assert attempts() == []


@pytest.mark.parametrize("kind", [batch, ordered, external], ids=lambda kind: kind.name)
def test_a_worker_finishes_what_it_has_in_hand_and_takes_no_more(kind, monkeypatch):
    monkeypatch.setattr(batch_jobs, "BATCH_SIZE", 1)
    monkeypatch.setattr("actors.external_calls._WITHOUT_THREADS", 1)
    jobs = enqueued(kind, 3)
    meanwhile.append(lambda: pause(QUEUE))
    kind(str(jobs[0].id))
    assert (len(done), attempts()) == (1, [0, 0])
    pause()
    for id in messages():
        kind(id)
    assert (len(done), attempts()) == (3, [])


def test_consumers_leave_the_messages_of_a_paused_queue_in_redis():
    with transaction():
        enqueue(transactional.job())
        enqueue(other.job())
    pause(QUEUE)
    assert messages() == []
    assert len(messages(OTHER)) == 1
    pause()
    assert len(messages()) == 1


def test_the_consumer_of_a_paused_queue_does_not_ask_redis_again_and_again(monkeypatch):
    with transaction():
        enqueue(transactional.job())
    consumer = broker.current().consume(QUEUE, prefetch=10, timeout=1)
    pause(QUEUE)
    monkeypatch.setattr(consumer, "_wait", lambda: pytest.fail("it asks"))
    assert next(consumer) is None


def fetch_while_paused(monkeypatch) -> list[bytes | None]:
    """Pauses the queue while its consumer waits; returns what it fetched, and gives to nobody."""
    consumer = broker.current().consume(QUEUE, prefetch=10, timeout=1)
    wait: Callable[[], list[bytes | None]] = consumer._wait  # type: ignore[attr-defined]
    arrived: list[bytes | None] = []

    def paused_meanwhile() -> list[bytes | None]:
        arrived.extend(wait())
        pause(QUEUE)
        return arrived

    monkeypatch.setattr(consumer, "_wait", paused_meanwhile)
    assert next(consumer) is None
    return arrived


def test_a_queue_that_is_paused_while_its_consumer_waits_gives_it_no_message(monkeypatch):
    with transaction():
        enqueue(transactional.job())
    arrived = fetch_while_paused(monkeypatch)
    pause()
    assert len(arrived) == len(messages()) == 1


def test_a_queue_that_is_paused_while_its_consumer_waits_keeps_its_messages_beside_one_without_content(
    monkeypatch,
):
    with transaction():
        enqueue(transactional.job())
    client, key = broker.current().client, f"{broker.current().namespace}:{QUEUE}"
    client.rpush(key, "a message whose content is lost")
    arrived = fetch_while_paused(monkeypatch)
    assert [message is None for message in arrived] == [False, True]
    pause()
    assert len(messages()) == 1


@every_kind
def test_the_relay_leaves_the_jobs_of_a_paused_queue_alone(kind):
    enqueued(kind, 2)
    make_overdue()
    pause(QUEUE)
    assert relay.once() == 0
    assert (attempts(), messages()) == ([0, 0], [])
    enqueued(other)
    make_overdue()
    assert relay.once() == 1
    pause()
    relay.once()
    assert messages()


def test_a_message_that_was_set_aside_is_no_attempt_though_the_relay_looks_first():
    jobs = enqueued(transactional, 2)
    postgres.rows("UPDATE journal.jobs SET sent_at = sent_at - interval '1 hour'")
    make_overdue()
    pause(QUEUE)
    transactional(str(jobs[0].id))
    # Another message waits in the queue.
    broker.push(jobs[1:])
    pause()
    relay.once()
    assert attempts()[0] == 0


def test_without_redis_the_relay_sends_what_was_set_aside(valkey_server):
    [job] = enqueued(transactional)
    pause(QUEUE)
    transactional(str(job.id))
    broker.configure("redis://127.0.0.1:1/0", timeout=0.5)
    pause()
    broker.configure(valkey_server.url, timeout=30)
    make_overdue()
    assert relay.once() == 1


def overdue() -> int:
    [found] = [invariants.check(name, times.now(), seconds=5) for name in ("no_job_is_overdue",)]
    return int(found.count or 0)


def test_what_waits_on_a_paused_queue_is_not_overdue():
    enqueued(transactional)
    make_overdue()
    assert overdue() == 1
    pause(QUEUE)
    assert overdue() == 0
    # Nor when it was just resumed: its workers need a moment.
    pause()
    assert overdue() == 0
    postgres.rows("UPDATE admin.system_config SET updated_at = updated_at - interval '1 hour'")
    assert overdue() == 1


def test_an_invariant_that_a_pause_violates_names_the_queue():
    invariants.save(
        invariants.Invariant(
            name="every_event_is_published", count=1, offenders=["1"], checked_at=times.now()
        )
    )
    statuses = {status.name: status for status in invariants.statuses(times.now())}
    assert statuses["every_event_is_published"].reason is None
    pause("events")
    statuses = {status.name: status for status in invariants.statuses(times.now())}
    assert not statuses["every_event_is_published"].ok
    assert statuses["every_event_is_published"].reason == "paused: events"


def test_a_payment_waits_for_its_paused_queue_and_then_completes():
    payment = makers.payment()
    pause("psp")
    makers.JOBS["payments.begin"](str(job_journal.id_for_key("payments.begin", str(payment.id))))
    makers.JOBS["payments.charge"](str(job_journal.id_for_key("payments.charge", str(payment.id))))
    assert makers.reload(payment).status == "processing"
    pause()
    makers.work()
    assert makers.reload(payment).status == "completed"
