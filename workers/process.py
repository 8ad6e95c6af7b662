"""What every worker process does: read settings, open stores, repeat its work, end on a signal."""

import signal
import sys
import threading
import time
from _thread import start_new_thread
from collections.abc import Callable
from typing import Self

import structlog
from pydantic import Field, field_validator, model_validator

from actors import broker, tracing
from db import heartbeats, postgres, redis
from db.core import logs
from db.core.logs import Outage
from db.core.settings import InvalidSetting, StoreSettings
from workers import resources
from workers.watchdog import Watchdog

log = structlog.get_logger(__name__)

# After how long without a finished pass a loop counts as hanging: longer than a pass may wait for its stores.
HANGS_AFTER_S = 25
# Longer than a web process waits for Redis: a worker has nothing else to do, and Dramatiq treats a timeout as
# a failure.
REDIS_TIMEOUT_S = 5.0


class WorkerSettings(StoreSettings):
    """The settings of a worker process."""

    worker_threads: int = Field(8, ge=1, le=256)

    # Whether an order may name what the stubbed PSP does (`metadata.simulate`); None for the default.
    psp_simulate: bool | None = None

    @field_validator("psp_simulate", mode="before")
    @classmethod
    def _absent_if_empty(cls, value: object) -> object:
        return value or None

    @property
    def simulates_psp(self) -> bool:
        """Returns PSP_SIMULATE; by default whether this is not production."""
        return self.app_env != "production" if self.psp_simulate is None else self.psp_simulate

    @model_validator(mode="after")
    def _has_a_connection_for_each_thread(self) -> Self:
        if self.database_pool < self.worker_threads + 1:
            raise InvalidSetting("DATABASE_POOL: must be greater than WORKER_THREADS")
        return self


def refuse_arguments(module: str) -> None:
    """Exits if the process was started with arguments: one that asks for `--help` wants no process."""
    if sys.argv[1:]:
        sys.exit(f"usage: python -m {module}; its settings come from the environment")


def start(service: str) -> WorkerSettings:
    """Reads the settings, configures priority, memory, logs, stores and traces. Exits on an invalid setting.

    `service` is the name of the process in its spans.
    """
    settings = WorkerSettings.read_or_exit()
    resources.lower_priority()
    resources.limit_memory()
    logs.configure(settings.log_level, settings.log_format)
    postgres.configure(settings.database_url, connections=settings.database_pool)
    broker.configure(settings.redis_url, timeout=REDIS_TIMEOUT_S)
    tracing.start(settings.otel_exporter_otlp_endpoint, service)
    return settings


def repeat(
    kind: str,
    once: Callable[[], bool],
    client: redis.Client,
    stopped: threading.Event,
    *,
    rest: Callable[[threading.Event], object],
    hangs_after_s: int = HANGS_AFTER_S,
) -> None:
    """Calls `once` until `stopped` is set, also during outages of the stores.

    `once` returns whether there is more to do; `rest` is called if there is not. `kind` names the loop in the
    log and in its heartbeat, which is written every few seconds.
    """
    next_beat_at = 0.0
    watchdog, outage = Watchdog(kind, hangs_after_s), Outage("database or redis", kind=kind)
    watchdog.start()
    log.info("started", kind=kind)
    while not stopped.is_set():
        try:
            more = once()
        except (*postgres.TRANSIENT_ERRORS, redis.Unreachable) as error:
            outage.began(error)
            more = False
        else:
            outage.ended()
        # Also after an outage: a loop that waits for a store does not hang.
        watchdog.beat()
        if time.monotonic() >= next_beat_at:
            heartbeats.beat(client, [kind])
            next_beat_at = time.monotonic() + heartbeats.INTERVAL_S
        if not more:
            rest(stopped)
    watchdog.stop()
    heartbeats.leave(client, [kind])
    tracing.stop()


def until_stopped() -> threading.Event:
    """Returns an event that SIGTERM and SIGINT set. The process then finishes its jobs and takes no more."""
    stopped = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        # In a thread of its own: the handler may interrupt a wait that has the lock of the event, for which
        # `set` would wait for ever. `threading.Thread` takes locks as well.
        signal.signal(signum, lambda _signum, _frame: start_new_thread(stopped.set, ()))
    return stopped
