"""One of several holds a lease, for a time."""

import threading
from collections.abc import Callable, Iterator

import pytest

from db import leases, postgres
from db.leases import Lease
from tests import makers


@pytest.fixture(autouse=True)
def clean(stores) -> Iterator[None]:
    yield
    makers.wipe()


def elsewhere(do: Callable[[], object]) -> object:
    """What another process gets, on a connection of its own."""
    found: list[object] = []

    def run() -> None:
        with postgres.connection():
            found.append(do())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    return found[0]


def take(seconds: float = 60) -> int | None:
    return leases.acquire("test", leases.process_name(), seconds)


@pytest.fixture
def connection(clean) -> Iterator[None]:
    with postgres.connection():
        yield


def test_one_holds_a_lease_and_another_gets_it_when_it_is_released(connection):
    first = take()
    assert first is not None
    assert leases.holder("test") == leases.process_name()
    assert take() is None
    leases.release("test", first)
    assert leases.holder("test") is None
    assert take() == first + 1


def test_a_lease_that_expires_goes_to_another_and_its_old_holder_knows(connection):
    first = take(0)
    assert first is not None
    second = take()
    assert second == first + 1
    assert not leases.renew("test", first, 60)
    leases.release("test", first)
    with postgres.database.atomic():
        assert not leases.is_held("test", first)
        assert leases.is_held("test", second)


def test_a_renewed_lease_is_kept(connection):
    first = take(0)
    assert first is not None
    assert leases.renew("test", first, 60)
    assert take() is None


def test_a_lease_is_not_taken_while_a_transaction_relies_on_it(connection):
    first = take(0)
    assert first is not None
    with postgres.database.atomic():
        assert leases.is_held("test", first)
        # Nor is it waited for.
        assert elsewhere(take) is None
        assert elsewhere(lambda: leases_shared(first)) is True
    assert elsewhere(take) == first + 1


def leases_shared(generation: int) -> bool:
    """Another transaction of the same holder."""
    with postgres.database.atomic():
        return leases.is_held("test", generation)


def test_of_many_that_take_a_free_lease_at_once_one_gets_it(clean):
    found: list[int | None] = []
    barrier = threading.Barrier(8)

    def run() -> None:
        with postgres.connection():
            barrier.wait()
            found.append(take())

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found, key=str) == [1] + [None] * 7


def test_leases_are_by_name(connection):
    assert take() == 1
    assert leases.acquire("another", leases.process_name(), 60) == 1
    assert Lease.select().count() == 2
