"""Messages of jobs that are committed at the same time are sent together."""

import threading
from collections.abc import Iterable
from uuid import uuid4

import pytest

from actors import broker
from db.job_journal import Job
from tests.makers import until


class SlowRedis:
    """Records what is pushed; each push waits until it may end."""

    def __init__(self) -> None:
        self.pushed: list[list[str]] = []
        self.may_end = threading.Semaphore(0)

    def push(self, jobs: Iterable[Job]) -> None:
        self.pushed.append([job.name for job in jobs])
        assert self.may_end.acquire(timeout=60)


@pytest.fixture
def slow(stores: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> SlowRedis:
    slow = SlowRedis()
    monkeypatch.setattr(broker, "push", slow.push)
    return slow


def job(name: str, *, shared: bool = False) -> Job:
    return Job(uuid4(), name, "any", {}, None, shared=shared)


def sending(*jobs: Job) -> threading.Thread:
    thread = threading.Thread(target=broker.try_push, args=(jobs,))
    thread.start()
    return thread


def test_who_comes_while_messages_are_sent_leaves_his_to_that_thread(slow):
    first = sending(job("a"))
    until(lambda: slow.pushed)
    broker.try_push([job("b")])
    broker.try_push([job("c")])
    slow.may_end.release(2)
    first.join(60)
    until(lambda: len(slow.pushed) == 2)
    assert slow.pushed == [["a"], ["b", "c"]]


def test_the_first_thread_does_not_wait_for_the_messages_of_others(slow):
    first = sending(job("a"))
    until(lambda: slow.pushed)
    broker.try_push([job("b")])
    slow.may_end.release()
    first.join(60)
    assert not first.is_alive()
    until(lambda: slow.pushed == [["a"], ["b"]])
    slow.may_end.release()
    until(lambda: not broker._sending._taken)


def test_nothing_is_sent_for_a_caller_whose_jobs_are_sent_already(slow):
    slow.may_end.release(9)
    broker._push_unsent()
    assert slow.pushed == []


def test_one_message_wakes_a_worker_for_all_jobs_of_a_batch():
    sizes = []
    for pairs in (1, 3):
        broker.current().client.flushdb()
        jobs = [job(name, shared=name == "batch") for _ in range(pairs) for name in ("batch", "single")]
        assert broker.push(jobs) == 1 + pairs
        sizes.append(broker.current().do_qsize("any"))
    assert sizes == [2, 4]


def test_after_an_unexpected_failure_the_next_caller_sends(slow, monkeypatch):
    def fail(_jobs: Iterable[Job]) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(broker, "push", fail)
        with pytest.raises(ZeroDivisionError):
            broker.try_push([job("a")])
    slow.may_end.release()
    broker.try_push([job("b")])
    assert slow.pushed == [["b"]]
