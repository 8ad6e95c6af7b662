"""What every worker process does: read settings, open stores, repeat its work, end on a signal."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import structlog
from pydantic import Field, field_validator, model_validator

from actors import broker, tracing
from db import heartbeats, postgres, redis
from db.core import logs
from db.core.logs import Outage
from db.core.settings import InvalidSetting, StoreSettings

log = structlog.get_logger(__name__)

# After how long without a finished pass a loop hangs: longer than one pass may wait for its stores.
HANGS_AFTER_S = 25
# Longer than a web process waits for Redis: a worker has nothing else to do, and Dramatiq treats a timeout as
# a failure.
REDIS_TIMEOUT_S = 5.0
# A web process on the same machine gets ten times the weight of a worker: a caller waits for it, and what a
# worker does a moment later it does with more jobs in one transaction.
_NICENESS = 10
# The kernel weighs a session as a whole where it groups sessions; it refuses two changes within 0.1 s.
_AUTOGROUP, _AUTOGROUP_TRIES, _AUTOGROUP_PAUSE_S = Path("/proc/self/autogroup"), 20, 0.1
# glibc's mallopt(3): with an arena for each thread, a worker keeps ten megabytes more than it uses.
_M_ARENA_MAX, _ARENAS = -8, 2


class WorkerSettings(StoreSettings):
    """The settings of a worker process."""

    worker_threads: int = Field(8, ge=1, le=256)

    # Whether an order may name what the stubbed PSP does with it (`metadata.simulate`).
    psp_simulate: bool | None = None

    @field_validator("psp_simulate", mode="before")
    @classmethod
    def _absent_if_empty(cls, value: object) -> object:
        return value or None

    @property
    def simulates_psp(self) -> bool:
        """Returns whether it is on: everywhere but in production, unless it is set."""
        return self.app_env != "production" if self.psp_simulate is None else self.psp_simulate

    @model_validator(mode="after")
    def _has_a_connection_for_each_thread(self) -> Self:
        if self.database_pool < self.worker_threads + 1:
            raise InvalidSetting("DATABASE_POOL: must be greater than WORKER_THREADS")
        return self


def start(service: str = "worker") -> WorkerSettings:
    """Reads the settings, gives way, configures logs, stores and traces. Exits on an invalid setting.

    `service` is how its spans name the process.
    """
    settings = WorkerSettings.read_or_exit()
    _give_way()
    with suppress(AttributeError):  # Another C library has no mallopt.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
    logs.configure(settings.log_level, settings.log_format)
    postgres.configure(settings.database_url, connections=settings.database_pool)
    broker.configure(settings.redis_url, timeout=REDIS_TIMEOUT_S)
    tracing.start(settings.otel_exporter_otlp_endpoint, service)
    return settings


def _give_way() -> None:
    """Lets web processes on this machine compute first."""
    os.nice(_NICENESS)
    # A session that it shares is left alone: a web process may be in it.
    if os.getsid(0) == os.getpid():
        threading.Thread(target=_lower_session, name="session", daemon=True).start()


def _lower_session() -> None:
    for _ in range(_AUTOGROUP_TRIES):
        try:
            _AUTOGROUP.write_text(str(_NICENESS))
        except BlockingIOError:
            time.sleep(_AUTOGROUP_PAUSE_S)
        except OSError:  # Another system, or a kernel that groups no sessions.
            return
        else:
            return


class Watchdog:
    """Ends this process when its loop hangs, so that the supervisor restarts it.

    It counts its own ticks instead of reading a clock: while the whole process is frozen (SIGSTOP, a
    suspended machine) no tick passes, so a process that wakes up is not ended.
    """

    def __init__(self, kind: str, timeout_s: int, end: Callable[[int], object] = os._exit) -> None:
        self._kind, self._timeout_s, self._end = kind, timeout_s, end
        self._silent_s = 0
        self._stopped = threading.Event()

    def beat(self) -> None:
        """Reports that the loop is alive."""
        self._silent_s = 0

    def tick(self) -> None:
        """Counts one more second; ends the process after `timeout_s` of them without a beat."""
        self._silent_s += 1
        if self._silent_s > self._timeout_s:
            log.critical("the loop hangs, ending", kind=self._kind, seconds=self._timeout_s)
            self._end(1)

    def start(self) -> None:
        """Ticks once a second in a thread of its own, until `stop`."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(1):
            self.tick()


def repeat(
    kind: str,
    once: Callable[[], bool],
    client: redis.Client,
    stopped: threading.Event,
    *,
    rest: Callable[[threading.Event], object],
    hangs_after_s: int = HANGS_AFTER_S,
) -> None:
    """Calls `once` until `stopped` is set, also across outages; rests after a pass that leaves nothing to do.

    Writes a heartbeat after a pass, every few seconds. `kind` names the loop in it and in the log.
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
        # The loop waits; it does not hang.
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
    """Returns an event that SIGTERM and SIGINT set: finish the work at hand and take no more."""
    stopped = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda _signum, _frame: stopped.set())
    return stopped
