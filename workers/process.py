"""What every worker process does first and last: settings, logs, stores; and an end when it is told to."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Self

import structlog
from pydantic import Field, model_validator

from actors import broker
from db import postgres
from db.core import logs, settings

log = structlog.get_logger(__name__)

# After how long without a turn a loop hangs, in seconds: longer than its stores may let it wait.
HANGS_AFTER_S = 25
# A worker can wait for Redis, where the door cannot; and Dramatiq takes a timeout for a defect.
REDIS_TIMEOUT_S = 5.0


class WorkerSettings(settings.StoreSettings):
    """What a worker needs to know besides the stores."""

    worker_threads: int = Field(8, ge=1, le=256)
    # How long an idle worker waits at most before it looks for messages again, in milliseconds.
    worker_poll_ms: int = Field(50, ge=5, le=5000)

    @model_validator(mode="after")
    def _a_connection_each(self) -> Self:
        if self.database_pool < self.worker_threads + 1:
            raise settings.InvalidSetting("wrong setting: DATABASE_POOL: needs more than WORKER_THREADS")
        return self


def start() -> WorkerSettings:
    """Reads the settings, or ends the process in one line; opens the logs, and names the stores."""
    read = settings.read_or_exit(WorkerSettings)
    logs.configure(read.log_level, read.log_format)
    postgres.configure(read.database_url, connections=read.database_pool)
    broker.configure(read.redis_url, timeout=REDIS_TIMEOUT_S)
    return read


class Pulse:
    """Ends this process when its loop hangs, so that whatever runs it starts it again: after so many seconds
    without a beat.

    Counted by looks and not by a clock: while the whole process is frozen, nobody looks.
    """

    def __init__(self, kind: str, seconds: int, end: Callable[[int], object] = os._exit) -> None:
        self._kind, self._seconds, self._end = kind, seconds, end
        self._silent = 0

    def beat(self) -> None:
        """The loop goes on."""
        self._silent = 0

    def look(self) -> None:
        """One second more has passed."""
        self._silent += 1
        if self._silent > self._seconds:
            log.critical("the loop hangs, ending", kind=self._kind, seconds=self._seconds)
            self._end(1)

    def watch(self) -> None:
        """Looks each second from now on, as long as the process lives."""

        def run() -> None:
            while True:
                time.sleep(1)
                self.look()

        threading.Thread(target=run, daemon=True).start()


def until_stopped() -> threading.Event:
    """Set when the process is told to end (SIGTERM, SIGINT): finish what is in hand, take no more."""
    told = threading.Event()

    def tell(_signal: int, _frame: FrameType | None) -> None:
        told.set()

    signal.signal(signal.SIGTERM, tell)
    signal.signal(signal.SIGINT, tell)
    return told
