"""A web process has the launcher kill or freeze a process, and everything recovers."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from tests.makers import until
from workers.dev.demo import faults
from workers.dev.supervisor import Supervisor


@pytest.fixture
def running(checkout):
    checkout.write("Procfile", "web: python web.py\njob: sleep 600\n")
    launcher = checkout.start()
    checkout.ready(launcher)
    return checkout


def ask(checkout, **fault) -> None:
    write(checkout, json.dumps(fault))


def write(checkout, line: str) -> None:
    pipe = os.open(checkout.root / ".data/faults", os.O_WRONLY | os.O_NONBLOCK)
    os.write(pipe, line.encode() + b"\n")
    os.close(pipe)


def done(checkout) -> list[dict[str, Any]]:
    return json.loads((checkout.root / ".data/faults.json").read_text())


def test_a_killed_process_is_started_again(running):
    before = running.pids["job.1"]
    ask(running, fault="kill", process="job.1")
    [fault] = until(lambda: [each for each in done(running) if each["recovered_at"]])
    assert (fault["fault"], fault["process"], fault["pid"]) == ("kill", "job.1", before)
    assert fault["new_pid"] == running.pids["job.1"] != before


def test_a_frozen_process_goes_on_by_itself(running):
    process = psutil.Process(running.pids["job.1"])

    def is_seen_frozen() -> bool:
        """Freezes it for a second; a loaded machine may look for it only when that is over."""
        known = len(done(running))
        ask(running, fault="freeze", process="job.1", seconds=1)
        until(lambda: len(done(running)) > known)
        until(lambda: process.status() == psutil.STATUS_STOPPED or done(running)[-1]["recovered_at"])
        seen = process.status() == psutil.STATUS_STOPPED and done(running)[-1]["recovered_at"] is None
        until(lambda: done(running)[-1]["recovered_at"])
        return seen

    until(is_seen_frozen)
    until(lambda: process.status() == psutil.STATUS_SLEEPING)


@pytest.fixture
def job() -> Iterator[psutil.Popen]:
    with psutil.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def faults_of(job: psutil.Popen, data: Path) -> faults.Faults:
    return faults.Faults(data, cast(Supervisor, SimpleNamespace(running={"job.1": job})))


def freeze(of_job: faults.Faults, **how: object) -> None:
    of_job._do(json.dumps({"fault": "freeze", "process": "job.1", **how}).encode())


def test_a_process_stays_frozen_until_its_last_freeze_ends(job, tmp_path, monkeypatch):
    begun: list[float] = []
    ends = {1.0: threading.Event(), 60.0: threading.Event()}

    def sleep(seconds: float) -> None:
        begun.append(seconds)
        assert ends[seconds].wait(60)

    monkeypatch.setattr(faults, "time", SimpleNamespace(sleep=sleep))
    of_job, freezes = faults_of(job, tmp_path), []
    for seconds in ends:
        freezes.append(threading.Thread(target=freeze, args=(of_job,), kwargs={"seconds": seconds}))
        freezes[-1].start()
        until(lambda: len(begun) == len(freezes))
    ends[1.0].set()
    freezes[0].join(60)
    recorded = json.loads((tmp_path / "faults.json").read_text())
    assert [fault["recovered_at"] is None for fault in recorded] == [False, True]
    until(lambda: job.status() == psutil.STATUS_STOPPED)
    ends[60.0].set()
    freezes[1].join(60)
    until(lambda: job.status() == psutil.STATUS_SLEEPING)


@pytest.mark.parametrize(
    ("how", "seconds"), [({}, 1), ({"seconds": None}, 1), ({"seconds": -5}, 1), ({"seconds": 600}, 60)]
)
def test_a_freeze_takes_a_second_to_a_minute_whatever_it_names(job, tmp_path, monkeypatch, how, seconds):
    slept: list[float] = []
    monkeypatch.setattr(faults, "time", SimpleNamespace(sleep=slept.append))
    freeze(faults_of(job, tmp_path), **how)
    assert slept == [seconds]
    until(lambda: job.status() == psutil.STATUS_SLEEPING)


def test_a_freeze_for_a_time_that_is_none_freezes_nothing(job, tmp_path):
    with pytest.raises(ValueError, match="soon"):
        freeze(faults_of(job, tmp_path), seconds="soon")
    assert job.status() != psutil.STATUS_STOPPED
    assert not (tmp_path / "faults.json").exists()


def test_a_line_that_says_nothing_stops_nothing(running):
    before = running.pids
    write(running, "nothing")
    for fault in ({"fault": "kill", "process": "nobody"}, {"no": "fault"}):
        ask(running, **fault)
    ask(running, fault="flushRedis")
    [fault] = until(lambda: done(running))
    assert (fault["fault"], running.pids) == ("flushRedis", before)


def test_production_has_no_such_pipe(checkout):
    launcher = checkout.start(APP_ENV="production")
    checkout.ready(launcher)
    assert not (checkout.root / ".data/faults").exists()
