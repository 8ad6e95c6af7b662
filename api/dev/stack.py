"""The launcher of `make run`: what it runs, and faults that it does on request."""

import json
import os
from pathlib import Path
from typing import Any

from db.core.errors import DomainError, ErrorCode

# What is started again and can be killed, but not frozen: a frozen store answers nobody, and proves nothing.
STORES = ("postgres", "valkey")


class LauncherGone(DomainError, code=ErrorCode.SERVICE_UNAVAILABLE, retry_after=5):
    """The launcher of this stack does not listen. Start the stack with `make run`."""


class Stack:
    """The stack whose DATA_DIR this is (see workers/dev/faults.py)."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def pids(self) -> dict[str, int]:
        """Returns the processes that can be killed by name, as `psp.1`: all but web, which answers this."""
        pids = self._read("pids.json", {})
        return {name: pid for name, pid in sorted(pids.items()) if not name.startswith("web.")}

    def faults(self) -> list[dict[str, Any]]:
        """Returns the faults so far, the newest first."""
        return list(reversed(self._read("faults.json", [])))

    def do(self, fault: str, process: str | None = None, seconds: int | None = None) -> None:
        """Has the launcher do it. Raises LauncherGone."""
        line = json.dumps({"fault": fault, "process": process, "seconds": seconds}) + "\n"
        try:
            pipe = os.open(self._data / "faults", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            raise LauncherGone from None
        try:
            os.write(pipe, line.encode())
        finally:
            os.close(pipe)

    def _read(self, name: str, missing: Any) -> Any:
        try:
            return json.loads((self._data / name).read_text())
        except FileNotFoundError:
            return missing
