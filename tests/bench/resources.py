"""What processes use: CPU time and resident memory, by process."""

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.bench.stack import Stores

POSTGRES, VALKEY = "PostgreSQL", "Valkey"


class Processes:
    """The processes of a program and of the stores, by the name under which their use is counted."""

    def __init__(self, stores: Stores, pids: Path | None = None, **others: int) -> None:
        self._stores, self._pids, self._others = stores, pids, others

    def roots(self) -> dict[str, int]:
        """Returns the first process of each name."""
        named: dict[str, int] = json.loads(self._pids.read_text()) if self._pids else {}
        stores = {POSTGRES: self._stores.postgres.pid or 0, VALKEY: self._stores.valkey.pid or 0}
        return {name.partition(".")[0]: pid for name, pid in named.items()} | self._others | stores

    def cpu_seconds(self) -> Counter[str]:
        """Returns the CPU seconds that each name has used, with the processes that have ended."""
        return Counter({name: sum(map(_cpu_seconds, _tree(pid))) for name, pid in self.roots().items()})

    def resident_mb(self) -> dict[str, list[float]]:
        """Returns the resident megabytes of each process of each name, those of the stores left out."""
        found = {}
        for name, pid in self.roots().items():
            if name not in (POSTGRES, VALKEY):
                found[name] = sorted(process.memory_info().rss / 1e6 for process in _tree(pid))
        return found


def _tree(pid: int) -> Iterable[psutil.Process]:
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        yield root
        yield from root.children(recursive=True)


def _cpu_seconds(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        user, system, children_user, children_system = process.cpu_times()[:4]
        # The times are whole ticks of 10 ms, and count threads that have ended; the scheduler's do not.
        return float(max(user + system, scheduled_seconds(process.pid)) + children_user + children_system)
    return 0.0


def scheduled_seconds(pid: int) -> float:
    """Returns how long the threads of a process have run, to the nanosecond; 0 where no Linux tells it."""
    ran_ns = 0
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                ran_ns += int((thread / "schedstat").read_text().split()[0])
    return ran_ns / 1e9


def used_ms(before: Counter[str], after: Counter[str], divided_by: int) -> dict[str, float]:
    """Returns the CPU milliseconds for each of so many requests, by process."""
    return {name: 1000 * (after[name] - before[name]) / max(1, divided_by) for name in after}
