"""Faults on request: kills or freezes a process of this stack, to show that everything recovers.

A web process writes a line of JSON into the pipe `faults` in DATA_DIR, such as
`{"fault": "freeze", "process": "psp.1", "seconds": 10}`. The launcher does what the line says. A web process
may end before a frozen process has to continue. `faults.json` lists what was done.
"""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import structlog

from db.core import times
from workers.dev import stack
from workers.dev.processes import signal_group
from workers.dev.supervisor import Supervisor

log = structlog.get_logger(__name__)

# How many faults the file has, the newest last.
LISTED_FAULTS = 30
# How long a process is frozen at most.
MAX_FREEZE_S = 60


class Faults:
    """Listens to the pipe, and does what its lines say."""

    def __init__(self, data: Path, supervisor: Supervisor) -> None:
        self._pipe, self._file, self._supervisor = data / "faults", data / "faults.json", supervisor
        self._lock = threading.Lock()
        self._faults: list[dict[str, Any]] = []
        # The latest freeze of each process: the end of an earlier one does not let the process continue.
        self._freezes: dict[int, dict[str, Any]] = {}

    def listen(self) -> None:
        """Makes the pipe and listens to it, as long as the launcher lives."""
        self._pipe.unlink(missing_ok=True)
        os.mkfifo(self._pipe, 0o600)
        self._write()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        # For writing too: otherwise the pipe ends whenever a writer closes it.
        with self._pipe.open("r+b", buffering=0) as lines:
            for line in lines:
                # A fault takes seconds, and an invalid line must end no other thread than its own.
                threading.Thread(target=self._do, args=(line,), daemon=True).start()

    def _do(self, line: bytes) -> None:
        """Does what a line says, and records it; returns when the process has recovered."""
        request = {"process": None, "seconds": None} | json.loads(line)
        kind, name = request["fault"], request["process"]
        # Checked before anything is done: after a freeze, an invalid time would leave the process frozen.
        seconds = min(max(int(request["seconds"] or 1), 1), MAX_FREEZE_S)
        running = self._supervisor.running.get(name)
        if name and not running:
            return
        fault = {"at": times.iso(times.now()), **request, "pid": running and running.pid}
        fault |= {"new_pid": None, "recovered_at": None}
        self._faults.append(fault)
        del self._faults[:-LISTED_FAULTS]
        self._write()
        log.warning("fault", **request)
        if not running:
            return
        if kind == "freeze":
            self._freezes[running.pid] = fault
            signal_group(running.pid, signal.SIGSTOP)
            time.sleep(seconds)
            if self._freezes[running.pid] is fault:
                signal_group(running.pid, signal.SIGCONT)
        else:
            signal_group(running.pid, signal.SIGKILL)
            while not (restarted := self._supervisor.running.get(name)) or restarted is running:
                time.sleep(0.05)
            fault["new_pid"] = restarted.pid
        fault["recovered_at"] = times.iso(times.now())
        self._write()

    def _write(self) -> None:
        with self._lock:
            stack.write(self._file, json.dumps(self._faults) + "\n")
