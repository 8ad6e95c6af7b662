"""Faults on request: kills or freezes a process of this stack, to show that everything recovers.

A web process writes a line of JSON into the pipe `faults` in DATA_DIR, such as
`{"fault": "freeze", "process": "psp.1", "seconds": 10}`. The launcher does it, and not the web process: what
is frozen continues also when the web process is gone. `faults.json` says what was done.
"""

import json
import os
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from workers.dev import stack
from workers.dev.processes import signal_group
from workers.dev.supervisor import Supervisor

log = structlog.get_logger(__name__)

MAX_FREEZE_S = 60
# How many faults the file has, the newest last.
KEPT = 30

Record = dict[str, Any]


class Faults:
    """Listens to the pipe, and does what its lines say."""

    def __init__(self, data: Path, supervisor: Supervisor) -> None:
        self._pipe, self._file = data / "faults", data / "faults.json"
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._done: list[Record] = []
        # The latest freeze of each process: an earlier one must not end it.
        self._freezes: dict[int, Record] = {}

    def listen(self) -> None:
        """Makes the pipe and listens to it, as long as the launcher lives."""
        self._pipe.unlink(missing_ok=True)
        os.mkfifo(self._pipe, 0o600)
        self._write()
        threading.Thread(target=self._listen, name="faults", daemon=True).start()

    def _listen(self) -> None:
        # For writing too: otherwise the pipe ends whenever a writer closes it.
        with os.fdopen(os.open(self._pipe, os.O_RDWR)) as lines:
            for line in lines:
                try:
                    self._do(**json.loads(line))
                except (ValueError, TypeError) as error:
                    log.warning("not a fault", line=line.strip(), error=str(error))

    def _do(self, fault: str, process: str | None = None, seconds: int | None = None) -> None:
        running = self._supervisor.running.get(process or "")
        if process and not running:
            return
        record: Record = {"at": _now(), "fault": fault, "process": process, "seconds": seconds}
        record |= {"pid": running and running.pid, "new_pid": None, "recovered_at": None}
        self._done = [*self._done, record][-KEPT:]
        self._write()
        log.warning("fault", fault=fault, process=process, seconds=seconds)
        if running:
            act = self._freeze if fault == "freeze" else self._kill
            threading.Thread(target=act, args=(running.pid, record), daemon=True).start()

    def _freeze(self, pid: int, record: Record) -> None:
        self._freezes[pid] = record
        signal_group(pid, signal.SIGSTOP)
        time.sleep(min(record["seconds"] or 1, MAX_FREEZE_S))
        if self._freezes[pid] is record:
            signal_group(pid, signal.SIGCONT)
        self._recovered(record)

    def _kill(self, pid: int, record: Record) -> None:
        signal_group(pid, signal.SIGKILL)
        while not (restarted := self._supervisor.running.get(record["process"])) or restarted.pid == pid:
            time.sleep(0.05)
        self._recovered(record, new_pid=restarted.pid)

    def _recovered(self, record: Record, **more: int) -> None:
        record.update(recovered_at=_now(), **more)
        self._write()

    def _write(self) -> None:
        with self._lock:
            stack.write(self._file, json.dumps(self._done) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
