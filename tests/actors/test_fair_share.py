"""Slow payments of one customer delay neither other customers nor the resolution of unknown outcomes."""

import threading
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from actors import broker, job_leases, jobs, payment_jobs
from actors.batch_jobs import BatchEntry
from actors.external_calls import CallingKind
from actors.external_jobs import ExternalBatchJob
from actors.jobs import enqueue, transaction
from actors.psp import provider
from actors.psp.stub import Stub
from actors.worker_threads import CallThreads
from db import leased_jobs, payments, postgres
from db.users import User
from tests import makers
from tests.makers import until
from tests.tables import JobRow
from workers import main, psp, relay
from workers.process import WorkerSettings

seen: list[str] = []
during_call: Callable[[str], object] = print


class OfCustomer(BatchEntry):
    customer: str
    what: str


def make(entry: OfCustomer) -> None:
    seen.append(f"{entry.customer}{entry.what}")
    during_call(f"{entry.customer}{entry.what}")


call = ExternalBatchJob(
    "test_fair_share.call",
    OfCustomer,
    queue="shared",
    share="customer",
    prepare=lambda entries: entries,
    call=make,
    record=lambda _made: None,
)


@pytest.fixture(autouse=True)
def committed(stores, valkey_server, monkeypatch) -> Iterator[None]:
    """Committed data, deleted after the test."""
    seen.clear()
    broker.configure(valkey_server.url, timeout=30).client.flushdb()
    for kind in jobs.load_all().values():
        if isinstance(kind, CallingKind):
            # Neither who serves it here nor whose turn it is then is left to other tests.
            for name, value in (("_threads", None), ("_threads_of_share", None), ("_last_share", "")):
                monkeypatch.setattr(kind, name, value)
    yield
    broker.configure(valkey_server.url, timeout=30).client.flushdb()
    makers.wipe()


@pytest.fixture
def go_on() -> Iterator[threading.Event]:
    """An event that ends all slow calls."""
    event = threading.Event()
    yield event
    event.set()


def enqueued(*calls: str) -> list[UUID]:
    """Enqueues a job for each of these: the customer and a number, as `a1`."""
    jobs = [call.job(OfCustomer(customer=what[0], what=what[1:])) for what in calls]
    with postgres.connection(), transaction():
        for job in jobs:
            enqueue(job)
    return [job.id for job in jobs]


def row(id: UUID) -> JobRow:
    with postgres.connection():
        found: JobRow = JobRow.get_by_id(id)
        return found


def waiting() -> int:
    with postgres.connection():
        return int(JobRow.select().count())


def leased(limit: int, after: str = "", **running: int) -> list[str]:
    """The jobs that a worker would lease next, with two threads for each customer."""
    with postgres.connection(), postgres.database.atomic() as rolled_back:
        jobs = leased_jobs.lease_shares(call.name, limit, 60, share=2, running=running, after=after).jobs
        rolled_back.rollback()
    return [f"{job.share}{job.args['what']}" for job in jobs]


def test_each_customer_gets_a_share_of_the_threads():
    enqueued("a1", "a2", "a3", "b1", "c1", "c2", "c3")
    assert leased(10) == ["a1", "a2", "b1", "c1", "c2"]
    # Those that run already count.
    assert leased(10, a=2, c=1) == ["b1", "c1"]
    # The first customer has all threads only if the others had their turn.
    assert leased(2) == ["a1", "a2"]
    assert leased(2, after="a", a=2) == ["b1", "c1"]


def test_a_lease_costs_the_same_however_many_jobs_of_one_customer_wait():
    def blocks() -> int:
        with postgres.connection(), postgres.database.atomic() as rolled_back:
            params = {
                "name": call.name,
                "limit": 24,
                "seconds": 60,
                "share": 8,
                "running": "{}",
                "after": "",
                "floor": 0,
            }
            [top] = postgres.rows(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {leased_jobs.LEASE_SHARES.plain}", **params
            )[0]["QUERY PLAN"]
            rolled_back.rollback()
        return int(top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"])

    enqueued(*[f"a{n}" for n in range(8)], "b1")
    few = blocks()
    with postgres.connection():
        postgres.rows(
            "INSERT INTO journal.jobs (id, name, queue, args, share, sent_at, due_at)"
            " SELECT gen_random_uuid(), %s, 'shared', '{}', 'a', 'infinity', clock_timestamp()"
            " FROM generate_series(1, 10000)",
            call.name,
        )
        postgres.rows("ANALYZE journal.jobs")
    assert blocks() < few + 100


def test_a_plan_of_an_empty_journal_leases_from_a_full_one_with_few_reads():
    def blocks_so_far() -> int:
        return int(
            postgres.value(
                "SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class"
                " WHERE relnamespace = 'journal'::regnamespace AND relname LIKE 'jobs%%'"
            )
        )

    with postgres.connection():
        postgres.rows("VACUUM journal.jobs")
        # The plan of the first execution stays.
        assert leased(10) == []
        with postgres.database.atomic() as rolled_back:
            postgres.rows(
                "INSERT INTO journal.jobs (id, name, queue, args, share, sent_at, due_at)"
                " SELECT gen_random_uuid(), %s, 'shared', '{}', CASE WHEN n <= 4990 THEN 'a' ELSE 'b' END,"
                " 'infinity', clock_timestamp()"
                " FROM generate_series(1, 5000) AS n",
                call.name,
            )
            before = blocks_so_far()
            found = leased_jobs.lease_shares(call.name, 10, 60, share=2, running={}, after="").jobs
            assert [job.share for job in found] == ["a", "a", "b", "b"]
            assert blocks_so_far() - before < 100
            rolled_back.rollback()


def test_jobs_above_a_share_wait_and_delay_no_other_customer(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "during_call", lambda what: what == "a1" and go_on.wait(60))
    call.serve(CallThreads(3), 1)
    first, second, _third = enqueued("a1", "a2", "a3")
    call(str(first))
    until(lambda: seen == ["a1"])
    call(str(enqueued("b1")[0]))
    until(lambda: waiting() == 3)
    assert seen == ["a1", "b1"]

    # It has no lease and counts no attempt, however often the relay sends a message.
    with postgres.connection():
        JobRow.update(due_at=row(second).created_at).where(JobRow.id == second).execute()
    assert relay.once() == 0
    assert (row(second).leased_until, row(second).attempts, row(second).error) == (None, 0, None)

    go_on.set()
    until(lambda: waiting() == 0)
    assert seen == ["a1", "b1", "a2", "a3"]


def test_a_failed_job_lets_the_next_one_begin(monkeypatch):
    def fail(what: str) -> None:
        if what != "a3":
            raise ConnectionError(what)

    monkeypatch.setitem(globals(), "during_call", fail)
    call.serve(CallThreads(3), 1)
    ids = enqueued("a1", "a2", "a3")
    call(str(ids[0]))
    until(lambda: waiting() == 2 and all(row(id).error for id in ids[:2]))
    assert seen == ["a1", "a2", "a3"]
    assert [row(id).error for id in ids[:2]] == ["ConnectionError: a1", "ConnectionError: a2"]


def test_a_stopped_process_leaves_its_waiting_jobs_to_others(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "during_call", lambda _what: go_on.wait(60))
    threads = CallThreads(1)
    call.serve(threads)
    first, second = enqueued("a1", "a2")
    call(str(first))
    until(lambda: seen == ["a1"])
    threads.close()
    assert not threads.join(0)
    go_on.set()
    assert threads.join(60)
    assert seen == ["a1"]
    assert waiting() == 1
    assert (row(second).leased_until, row(second).attempts) == (None, 0)


@pytest.fixture
def serve(stores, monkeypatch) -> Iterator[Callable[..., None]]:
    """Starts real Dramatiq workers."""
    # Their calls hang for as long as a loaded machine takes for the rest of a test.
    monkeypatch.setattr(job_leases, "RENEWED_FOR_S", 600)
    served: list[main.QueueWorker] = []
    settings = WorkerSettings.read({**makers.SECRETS, **stores})

    def start(queue: str, threads: int, share: int | None = None) -> None:
        served.append(main.start_worker({queue}, threads, settings, share=share))

    yield start
    calls = [threads for one in served for threads in one.calls]
    for threads in calls:
        threads.close()
    for one in served:
        one.dramatiq.stop()
    # What a call has brought is recorded before the test's rows are deleted.
    assert all(threads.join(60) for threads in calls)


def paid(customer: User, **metadata: str) -> UUID:
    with postgres.connection():
        return makers.payment(customer, **metadata).id


def customer() -> User:
    with postgres.connection():
        return makers.user()


def statuses(ids: list[UUID]) -> list[str]:
    with postgres.connection():
        found = payments.Payment.select().where(payments.Payment.id.in_(ids))
        return sorted(str(payment.status) for payment in found)


def charges() -> int:
    """How many charges the PSP got."""
    with postgres.connection():
        found = postgres.rows("SELECT count(*) AS n FROM payments.psp_attempts WHERE operation = 'charge'")
        return int(found[0]["n"])


def test_eighty_slow_payments_of_one_customer_delay_no_other(serve, go_on):
    """Independent of time: none of the eighty ends before the other customer's payment."""
    provider.choose(Stub(payment_jobs.receive_notice, sleep=lambda _seconds: go_on.wait(120)))
    one, other = customer(), customer()
    slow = [paid(one, simulate="slow") for _ in range(80)]
    serve("payments", 4)
    serve("psp", 6, share=2)
    until(lambda: statuses(slow) == ["processing"] * 80)
    until(lambda: charges() == 2)
    quick = paid(other, simulate="approve")
    until(lambda: statuses([quick]) == ["completed"])
    assert statuses(slow) == ["processing"] * 80
    assert charges() == 3

    go_on.set()
    until(lambda: statuses(slow) == ["completed"] * 80)
    assert charges() == 81


def test_an_unknown_outcome_is_resolved_while_all_charges_hang(serve, go_on):
    def sleep(seconds: float) -> None:
        # Who plays `slow` waits for three seconds, an answer that is lost is given up after one.
        if seconds > 2:
            go_on.wait(120)

    provider.choose(Stub(payment_jobs.receive_notice, sleep=sleep))
    serve("payments", 4)
    serve("psp", 2)
    serve("psp-inquiries", 1)
    lost = paid(customer(), simulate="timeout")
    until(lambda: statuses([lost]) == ["processing"] and charges() == 1)
    slow = [paid(customer(), simulate="slow") for _ in range(20)]
    until(lambda: charges() == 3)

    until(lambda: relay.once() == 0 and statuses([lost]) == ["completed"])
    assert charges() == 3
    assert statuses(slow) == ["processing"] * 20


def test_eight_inquiries_that_hang_delay_no_inquiry_for_another_customer(serve, go_on):
    """One customer may have so many charges at a time, and each that gets no answer is inquired about."""
    hanging: set[str] = set()

    class SilentAboutSome(Stub):
        def find(self, key: str) -> provider.Answer | None:
            if key in silent:
                hanging.add(key)
                go_on.wait(120)
            return super().find(key)

    provider.choose(SilentAboutSome(payment_jobs.receive_notice, sleep=lambda _seconds: None))
    one = customer()
    silent = {str(paid(one, simulate="blackout")) for _ in range(8)}
    serve("payments", 4)
    for queues, threads in psp.threads_of(8).items():
        serve(*queues, threads, share=8)
    until(lambda: relay.once() == 0 and hanging == silent)

    lost = paid(customer(), simulate="timeout")
    until(lambda: relay.once() == 0 and statuses([lost]) == ["completed"])
    assert not go_on.is_set()
