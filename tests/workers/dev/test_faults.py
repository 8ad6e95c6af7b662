"""A web process has the launcher kill or freeze a process, and everything recovers."""

import json
import os
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
    ask(running, fault="freeze", process="job.1", seconds=1)
    until(lambda: process.status() == psutil.STATUS_STOPPED)
    assert done(running)[0]["recovered_at"] is None
    until(lambda: process.status() == psutil.STATUS_SLEEPING)
    until(lambda: done(running)[0]["recovered_at"])


def test_a_process_stays_frozen_until_its_last_freeze_ends(running):
    process = psutil.Process(running.pids["job.1"])
    for seconds in (1, 60):
        ask(running, fault="freeze", process="job.1", seconds=seconds)
        until(lambda: process.status() == psutil.STATUS_STOPPED)
    until(lambda: [fault["recovered_at"] is None for fault in done(running)] == [False, True])
    until(lambda: process.status() == psutil.STATUS_STOPPED)


@pytest.fixture
def job() -> Iterator[psutil.Popen]:
    with psutil.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def freeze(job: psutil.Popen, data: Path, **how: object) -> None:
    supervisor = cast(Supervisor, SimpleNamespace(running={"job.1": job}))
    line = json.dumps({"fault": "freeze", "process": "job.1", **how})
    faults.Faults(data, supervisor)._do(line.encode())


@pytest.mark.parametrize(
    ("how", "seconds"), [({}, 1), ({"seconds": None}, 1), ({"seconds": -5}, 1), ({"seconds": 600}, 60)]
)
def test_a_freeze_takes_a_second_to_a_minute_whatever_it_names(job, tmp_path, monkeypatch, how, seconds):
    slept: list[float] = []
    monkeypatch.setattr(faults, "time", SimpleNamespace(sleep=slept.append))
    freeze(job, tmp_path, **how)
    assert slept == [seconds]
    until(lambda: job.status() == psutil.STATUS_SLEEPING)


def test_a_freeze_for_a_time_that_is_none_freezes_nothing(job, tmp_path):
    with pytest.raises(ValueError, match="soon"):
        freeze(job, tmp_path, seconds="soon")
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
