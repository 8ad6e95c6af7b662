"""A lease belongs to one process at a time, until it expires."""

import threading
from collections.abc import Callable, Iterator

import pytest

from db import leases, postgres
from tests import makers


@pytest.fixture(autouse=True)
def clean(stores) -> Iterator[None]:
    yield
    makers.wipe()


def elsewhere(do: Callable[[], object]) -> object:
    """Runs a function on another connection, as another process would; returns its result."""
    found: list[object] = []

    def run() -> None:
        with postgres.connection():
            found.append(do())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    return found[0]


def acquire(seconds: float = 60) -> int | None:
    return leases.acquire("test", leases.process_name(), seconds)


@pytest.fixture
def connection(clean) -> Iterator[None]:
    with postgres.connection():
        yield


def test_a_released_lease_goes_to_another_process(connection):
    first = acquire()
    assert first is not None
    assert leases.holder("test") == leases.process_name()
    assert acquire() is None
    leases.release("test", first)
    assert leases.holder("test") is None
    assert acquire() == first + 1


def test_an_expired_lease_goes_to_another_process_and_the_old_one_knows(connection):
    first = acquire(0)
    assert first is not None
    second = acquire()
    assert second == first + 1
    assert not leases.renew("test", first, 60)
    leases.release("test", first)
    with postgres.database.atomic():
        assert not leases.is_held("test", first)
        assert leases.is_held("test", second)


def test_a_renewed_lease_is_kept(connection):
    first = acquire(0)
    assert first is not None
    assert leases.renew("test", first, 60)
    assert acquire() is None


def test_a_lease_keeps_its_holder_while_a_transaction_relies_on_it(connection):
    first = acquire(0)
    assert first is not None
    with postgres.database.atomic():
        assert leases.is_held("test", first)
        # Another process does not wait for the lease either.
        assert elsewhere(acquire) is None
        assert elsewhere(lambda: leases_shared(first)) is True
    assert elsewhere(acquire) == first + 1


def leases_shared(generation: int) -> bool:
    """A transaction of the same process on another connection."""
    with postgres.database.atomic():
        return leases.is_held("test", generation)


def test_of_concurrent_claims_one_gets_the_lease(clean):
    found: list[int | None] = []
    barrier = threading.Barrier(8)

    def run() -> None:
        with postgres.connection():
            barrier.wait()
            found.append(acquire())

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found, key=str) == [1] + [None] * 7


def test_leases_are_by_name(connection):
    assert acquire() == 1
    assert leases.acquire("another", leases.process_name(), 60) == 1
    assert len(postgres.rows("SELECT FROM journal.leases")) == 2
