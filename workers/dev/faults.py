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
from workers.dev.supervisor import Process, Supervisor, signal_group

log = structlog.get_logger(__name__)

MAX_FREEZE_S = 60
# How many faults the file has, the newest last.
KEPT = 30
_POLL_S, _RESTART_TIMEOUT_S = 0.05, 30


class Faults:
    """Listens to the pipe, and does what its lines say."""

    def __init__(self, data: Path, supervisor: Supervisor) -> None:
        self._pipe, self._file = data / "faults", data / "faults.json"
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._done: list[dict[str, Any]] = []
        self._frozen: dict[int, threading.Timer] = {}

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
                except (ValueError, TypeError, KeyError) as error:
                    log.warning("not a fault", line=line.strip(), error=str(error))

    def _do(self, fault: str, process: str | None = None, seconds: int | None = None) -> None:
        running = self._supervisor.running.get(process) if process else None
        if process and not running:
            return
        record = {
            "at": _now(), "fault": fault, "process": process, "pid": running and running.pid,
            "seconds": seconds, "recovered_at": None, "new_pid": None,
        }  # fmt: skip
        if running and process:
            if fault == "freeze":
                self._freeze(running, min(float(seconds or 1), MAX_FREEZE_S), record)
            else:
                signal_group(running.pid, signal.SIGKILL)
                threading.Thread(
                    target=self._note_restart, args=(process, running, record), daemon=True
                ).start()
        with self._lock:
            self._done = [*self._done, record][-KEPT:]
        self._write()
        log.warning("fault", fault=fault, process=process, seconds=seconds)

    def _freeze(self, process: Process, seconds: float, record: dict[str, Any]) -> None:
        if earlier := self._frozen.pop(process.pid, None):
            earlier.cancel()

        def go_on() -> None:
            signal_group(process.pid, signal.SIGCONT)
            self._note(record)

        signal_group(process.pid, signal.SIGSTOP)
        self._frozen[process.pid] = timer = threading.Timer(seconds, go_on)
        timer.daemon = True
        timer.start()

    def _note_restart(self, name: str, killed: Process, record: dict[str, Any]) -> None:
        deadline = time.monotonic() + _RESTART_TIMEOUT_S
        while time.monotonic() < deadline:
            restarted = self._supervisor.running.get(name)
            if restarted and restarted.pid != killed.pid:
                self._note(record, new_pid=restarted.pid)
                return
            time.sleep(_POLL_S)

    def _note(self, record: dict[str, Any], **more: Any) -> None:
        record.update(recovered_at=_now(), **more)
        self._write()

    def _write(self) -> None:
        with self._lock:
            stack.write(self._file, json.dumps(self._done) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
