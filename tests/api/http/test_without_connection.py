"""A request that waits for a disk or a payment holds no database connection."""

import threading

import pytest
from peewee import OperationalError

from api.http import admission
from db import postgres
from tests.makers import until


@pytest.fixture
def connected(stores):
    admission.connect()
    yield
    admission.disconnect()


def test_the_connection_is_released_and_taken_again(connected):
    with admission.without_connection():
        assert postgres.database.is_closed()
        with admission.without_connection():
            assert postgres.database.is_closed()
        assert postgres.database.is_closed()
    assert not postgres.database.is_closed()


def test_the_connection_is_taken_again_after_an_error(connected):
    with pytest.raises(ZeroDivisionError), admission.without_connection():
        raise ZeroDivisionError
    assert not postgres.database.is_closed()


def test_a_connection_of_the_thread_stays_open(stores):
    with postgres.connection():
        admission.connect()
        with admission.without_connection():
            assert not postgres.database.is_closed()
        admission.disconnect()
        assert not postgres.database.is_closed()


def test_another_request_executes_meanwhile(connected, monkeypatch):
    monkeypatch.setattr(admission, "_executing", threading.BoundedSemaphore(1))
    executed = []

    def execute() -> None:
        with admission.executing():
            executed.append("other")

    other = threading.Thread(target=execute)
    with admission.executing():
        other.start()
        assert not executed
        with admission.without_connection():
            until(lambda: executed)
    other.join()


def test_a_slot_is_free_again_where_the_database_goes_away_while_a_request_waits(connected, monkeypatch):
    def away(**_options: object) -> bool:
        raise OperationalError

    def wait(taken: threading.BoundedSemaphore) -> None:
        assert postgres.database.is_closed()
        taken.release()
        taken.acquire()

    slots = threading.BoundedSemaphore(1)
    slots.acquire()
    with monkeypatch.context() as patched:
        patched.setattr(postgres.database, "connect", away)
        with pytest.raises(OperationalError), admission.slot(slots, wait=wait):
            pytest.fail("it has no connection")
    with admission.slot(slots):
        assert not slots.acquire(blocking=False)


def test_a_request_that_finds_a_free_slot_keeps_its_connection(connected, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(admission, "disconnect", lambda: pytest.fail("it does not have to wait"))
        with admission.slot(threading.BoundedSemaphore(1)):
            assert not postgres.database.is_closed()
