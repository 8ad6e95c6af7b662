"""What every worker process does first and last: settings, logs, stores; and an end when it is told to."""

import signal
import threading
from types import FrameType
from typing import Self

from pydantic import Field, model_validator

from actors import broker, logs
from db import postgres, settings

# A worker can wait for Redis, where the door cannot; and Dramatiq takes a timeout for a defect.
REDIS_TIMEOUT_S = 5.0


class Settings(settings.Settings):
    """What a worker needs to know besides the stores."""

    worker_threads: int = Field(8, ge=1, le=256)
    # How long an idle worker waits at most before it looks for messages again, in milliseconds.
    worker_poll_ms: int = Field(50, ge=5, le=5000)

    @model_validator(mode="after")
    def _a_connection_each(self) -> Self:
        if self.database_pool < self.worker_threads + 1:
            raise settings.WrongSetting("wrong setting: DATABASE_POOL: needs more than WORKER_THREADS")
        return self


def boot() -> Settings:
    """Reads the settings, or ends the process in one line; opens the logs, and names the stores."""
    read = settings.or_exit(Settings)
    logs.open(read.log_level)
    postgres.open(read.database_url, connections=read.database_pool)
    broker.open(read.redis_url, timeout=REDIS_TIMEOUT_S)
    return read


def until_told() -> threading.Event:
    """Set when the process is told to end (SIGTERM, SIGINT): finish what is in hand, take no more."""
    told = threading.Event()

    def tell(_signal: int, _frame: FrameType | None) -> None:
        told.set()

    signal.signal(signal.SIGTERM, tell)
    signal.signal(signal.SIGINT, tell)
    return told
