"""`make bench` starts, counts and renders: in seconds, with one call, without the peer."""

import os
import xml.etree.ElementTree as ET
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from tests.bench import chart, floor, page
from tests.bench.database import Database
from tests.bench.load import LoadFailed, drive
from tests.bench.resources import POSTGRES, Processes, scheduled_seconds
from tests.bench.stack import NO_WORKERS, paywright, stores
from tests.bench.targets import PAYMENT, Ours

LOAD = {"requests": 100, "seconds": 1.0, "p50": 2.0, "p95": 5.0, "p99": 9.0}
SETTLED = {
    "rate": 210.0,
    "post p95": 50.0,
    "cpu": {"web": 3.0, "PostgreSQL": 4.5},
    "wal kB": 13.0,
    "write transactions": 3.5,
    "statements": 11.0,
    "wal by table": [("jobs", 4.5)],
    "longest statements": [(2.5, 0.2, "SELECT 1 | 2")],
}
FIGURES = {
    "date": "2026-11-26 12:00Z",
    "commit": "abc",
    "machine": "2 cores",
    "system": "Linux",
    "load before": 4.0,
    "versions": {"Python": "3.11"},
    "options": {"rounds": 2, "seconds": 4.0},
    "calls": {
        "me": {
            "ours": [{**LOAD, "rate": rate, "cpu": {"web": 0.5}} for rate in (90.0, 110.0)],
            "peer": [{**LOAD, "rate": 100.0}] * 2,
        }
    },
    "settling": [SETTLED, SETTLED, SETTLED],
    "idle": {"web": 0.4, "PostgreSQL": 1.0},
    "growth": {
        "payments": 1000,
        "kB a payment": 7.5,
        "before": {"list": 2.0, "settled": 90},
        "after": {"list": 2.2, "settled": 80},
    },
}


def test_a_call_is_put_under_load_and_counted(tmp_path: Path):
    with (
        stores(tmp_path / "stores") as running,
        paywright(running, tmp_path, name="smoke", redis_number=0, processes=NO_WORKERS) as stack,
    ):
        api = Ours(stack.url)
        user = api.user()
        made = api.call("POST", "/payments", user, PAYMENT)
        call = api.reads(f"/payments/{made['id']}", made["id"], [user])
        database, processes = Database(stack.database_url), Processes(running, stack.pids)
        before = processes.cpu_seconds()
        with database.counting(statements=True) as counted:
            load = drive(
                stack.url, call.requests, expected=call.expected, connections=4, seconds=1, python=True
            )
        assert load.requests > 0
        assert 0 < load.p50 <= load.p95 <= load.p99
        assert sum(calls for calls, _, query in counted.statements or () if "payments" in query) > 0
        assert sum((processes.cpu_seconds() - before).values()) > 0
        assert {"web", POSTGRES} <= processes.roots().keys()
        assert processes.resident_mb()["web"]
        # Another content than expected, and another status, end the run.
        with pytest.raises(LoadFailed, match=made["id"]):
            drive(stack.url, call.requests, expected="no such text", connections=1, seconds=0.2, python=True)
        with pytest.raises(LoadFailed, match="404"):
            drive(
                stack.url,
                [call.requests[0].replace(made["id"], made["id"][::-1])],
                expected="",
                connections=1,
                seconds=0.2,
                python=True,
            )
        with ExitStack() as others:
            assert floor.bare_falcon(others, tmp_path, stack)(1)["rate"] > 0
        database.close()
        api.http.close()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the scheduler of Linux tells it")
def test_cpu_time_is_counted_finer_than_in_ticks():
    spun = []

    def spin() -> None:
        before = scheduled_seconds(os.getpid())
        while (after := scheduled_seconds(os.getpid())) == before:
            pass
        spun.append(after - before)

    # The time of every thread counts.
    thread = Thread(target=spin)
    thread.start()
    thread.join(10)
    assert spun[0] > 0
    assert spun[0] * 100 % 1


def test_only_this_machine_is_put_under_load():
    with pytest.raises(LoadFailed, match="not this machine"):
        drive("http://192.0.2.1", ["GET / HTTP/1.1\r\n\r\n"], expected="", connections=1, seconds=1)


def test_the_table_says_what_is_reached():
    table = page.table(FIGURES)
    assert "| `GET /auth/me`, of the peer's rate | ≥ 0.9x | ≥ 1.4x | 1x [0.9–1.1] | reached |" in table
    assert "| WAL of a settled payment | ≤ 12 kB |  | 13 kB [13–13] | **not reached** |" in table
    assert "login" not in table


def test_a_page_is_rendered_as_often_as_wanted(tmp_path: Path):
    written = tmp_path / "benchmarks.md"
    written.write_text("Top\n<!-- figures -->\nold\n<!-- end of figures -->\nBottom\n")
    for _ in range(2):
        page.publish(FIGURES, tmp_path)
    text = written.read_text()
    assert text.startswith("Top\n<!-- figures -->\n")
    assert text.endswith("<!-- end of figures -->\nBottom\n")
    assert "old" not in text
    assert text.count("busy: trust only") == 1
    assert "| 1,000 | 3 | 4.5 | 0 | 3,500 | 13 | 648 |" in text
    for picture in (tmp_path / "images").iterdir():
        assert f"images/{picture.name}" in text
        ET.fromstring(picture.read_text())


def test_a_chart_has_a_bar_for_each_value():
    drawn = ET.fromstring(
        chart.draw("Rates", [chart.Bar("a & b", 2.0, "ours"), chart.Bar("a & b", 1.0, "peer")])
    )
    widths = [float(bar.attrib["width"]) for bar in drawn.findall("{*}rect") if bar.attrib["height"] == "14"]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
