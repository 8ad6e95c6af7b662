"""The connections to PostgreSQL: a bounded number a process, each with a deadline for every answer.

Nobody waits long for a server that is away. A statement that takes long asks whether the server answers at
all: slow is not frozen. Where it does not, whatever waits fails, nothing idle is used again, and only one
thread a second tries to connect.
"""

import select
import threading
import time
from collections import deque
from typing import Any

import peewee
import psycopg2
import psycopg2.extensions as driver

from db.breaker import Breaker

# How long a request waits for a connection, be it for a free one or for the server; the server has at least
# the second time.
ACQUIRE_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_MIN_S = 0.5
# After so long without an answer it is asked whether the server answers anybody; that has so long as well.
# Together with what follows, a request has its 503 within three seconds.
PROBE_TIMEOUT_S = 1.0
# A connection that was idle for longer may have been dropped on the way, without a word: it is asked first.
IDLE_CHECK_AFTER_S = 30.0
# The server's own time limits come first: a client that gave up would leave the statement running.
STATEMENT_MARGIN_S = 2.0
RESPONSE_TIMEOUT_S = 5.0 + STATEMENT_MARGIN_S

# statement_timeout < a call's deadline < its lease (actors/job_leases.py): who still works was not replaced.
SESSION_TIMEOUTS = {
    "statement_timeout": "5s",
    "lock_timeout": "3s",
    "idle_in_transaction_session_timeout": "10s",
}
# The server notices a client whose machine is gone by itself.
_KEEPALIVES = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "8000",
}
_OPTIONS = " ".join(
    f"-c {name}={value}" for name, value in {**SESSION_TIMEOUTS, **_KEEPALIVES, "timezone": "UTC"}.items()
)
_SESSION_QUERY = "SELECT current_setting('transaction_read_only'), current_setting('TimeZone'), " + ", ".join(
    f"current_setting('{name}')" for name in SESSION_TIMEOUTS
)
# What precedes the statements of a transaction where the session has no time limits of its own.
_LOCAL_TIMEOUTS = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in SESSION_TIMEOUTS.items())


class DatabaseUnavailable(peewee.OperationalError):
    """The database is out of reach, refuses to write or has no room: worth another try a moment later."""


class ResponseTimeout(psycopg2.OperationalError):
    """The server did not answer within a deadline; the connection is closed."""


class Connection(driver.connection):
    """A connection, and what the pool knows of it."""

    pool: "Pool | None" = None
    # What follows BEGIN.
    local_limits = ""
    # Not to be used again.
    unfit = False
    epoch = 0
    used_at = 0.0

    def __init__(self, dsn: str, limit_s: float) -> None:
        # How long the server may take for the next answer; the first is waited for in here.
        self.limit_s = limit_s
        super().__init__(dsn)

    def is_quiet(self) -> bool:
        """Whether the server has sent nothing meanwhile: to an idle connection it only sends a farewell."""
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN)
        return not poller.poll(0)

    def ask(self) -> None:
        """Asks for any answer, within LOOK_S. Raises psycopg2.Error."""
        self.limit_s = PROBE_TIMEOUT_S
        self.cursor().execute("SELECT 1")


def wait_for_response(connection: driver.connection) -> None:
    """Waits for the server's answer, up to the connection's limit. Raises NoAnswer.

    A frozen server's kernel goes on acknowledging what it is sent, so neither keepalives nor TCP's own time
    limits notice. psycopg2 closes a connection whose wait was ended. Connections that are not the pool's have
    no limit (migrations).
    """
    state = connection.poll()
    if state == driver.POLL_OK:
        return
    ours = connection if isinstance(connection, Connection) else None
    deadline = time.monotonic() + ours.limit_s if ours else None
    while state != driver.POLL_OK:
        # A new one each time: while connecting, the socket may change.
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN if state == driver.POLL_READ else select.POLLOUT)
        left = None if deadline is None else deadline - time.monotonic()
        pause = None if left is None else max(0.0, min(left, PROBE_TIMEOUT_S)) * 1000
        if not poller.poll(pause) and ours and left is not None:
            if left <= PROBE_TIMEOUT_S:
                raise ResponseTimeout("the database did not answer in time")
            if ours.pool and not ours.pool.answers():
                raise ResponseTimeout("the database does not answer anybody")
        state = connection.poll()


class Pool:
    """At most `size` connections; opened when they are needed, outside any lock."""

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size = url, size
        self._seats = threading.BoundedSemaphore(size)
        # Last in, first out: what is not needed stays idle.
        self._idle: deque[Connection] = deque()
        self.taken: set[Connection] = set()
        self._epoch = 0
        self._options: str | None = _OPTIONS
        self._breaker = Breaker()
        self._pulse = threading.Lock()
        self._looked_at, self._answered = 0.0, True

    def anew(self) -> "Pool":
        """The same, with no connection: for a forked process, which must not speak on its parent's."""
        return Pool(self._url, self._size)

    def take(self) -> Connection:
        """A connection, which goes back by `give`. Raises Away."""
        deadline = time.monotonic() + ACQUIRE_TIMEOUT_S
        if not self._seats.acquire(timeout=ACQUIRE_TIMEOUT_S):
            raise DatabaseUnavailable(f"all {self._size} connections of this process are in use")
        try:
            connection = self._unused() or self._new(deadline)
        except BaseException:
            self._seats.release()
            raise
        connection.limit_s = RESPONSE_TIMEOUT_S
        self.taken.add(connection)
        return connection

    def give(self, connection: Connection) -> None:
        """Takes one back; closes it where it cannot be used again."""
        self.taken.discard(connection)
        try:
            idle = (
                not connection.closed
                and connection.get_transaction_status() == driver.TRANSACTION_STATUS_IDLE
                and not connection.unfit
                and connection.epoch == self._epoch
            )
            if idle:
                connection.used_at = time.monotonic()
                self._idle.append(connection)
            else:
                connection.close()
        finally:
            self._seats.release()

    def forget(self) -> None:
        """Uses none of the connections again that are open now, as soon as they come back."""
        self._epoch += 1
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def answers(self) -> bool:
        """Whether the server answers anybody; where it does not, everybody who waits fails at once.

        One thread asks, and those that come meanwhile have its answer.
        """
        came = time.monotonic()
        with self._pulse:
            if self._looked_at < came:
                self._answered = self._ask()
                self._looked_at = time.monotonic()
                if not self._answered:
                    self._breaker.failed()
                    self.forget()
            return self._answered

    def _ask(self) -> bool:
        try:
            if connection := self._quiet():
                connection.ask()
            else:
                connection = self._open(PROBE_TIMEOUT_S)
        except ResponseTimeout:
            return False
        except psycopg2.Error:
            # It refuses, which is an answer.
            return True
        if len(self.taken) + len(self._idle) < self._size:
            self._idle.append(connection)
        else:
            connection.close()
        return True

    def _quiet(self) -> Connection | None:
        """An idle connection that the server has not ended."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if connection.epoch == self._epoch and connection.is_quiet():
                return connection
            connection.close()
        return None

    def _unused(self) -> Connection | None:
        connection = self._quiet()
        if connection and time.monotonic() - connection.used_at > IDLE_CHECK_AFTER_S:
            try:
                connection.ask()
            except psycopg2.Error:
                connection.close()
                # Nor will those answer that were idle for longer.
                self.forget()
                return None
        return connection

    def _new(self, deadline: float) -> Connection:
        if not self._breaker.lets_through():
            raise DatabaseUnavailable("the database is away, and was asked a moment ago")
        try:
            connection = self._open(max(CONNECT_TIMEOUT_MIN_S, deadline - time.monotonic()))
        except psycopg2.Error as error:
            self._breaker.failed()
            raise DatabaseUnavailable(error, *error.args) from error
        self._breaker.well()
        return connection

    def _open(self, seconds: float) -> Connection:
        """A connection to a server that writes. Raises psycopg2.Error."""
        deadline, epoch, options = time.monotonic() + seconds, self._epoch, self._options
        try:
            connection = self._connect(seconds, options)
        except psycopg2.OperationalError as error:
            # PgBouncer knows no `options`.
            if not options or "unsupported startup parameter" not in str(error):
                raise
            self._options = None
            connection = self._connect(max(0.0, deadline - time.monotonic()), None)
        connection.autocommit = True
        connection.limit_s = max(0.0, deadline - time.monotonic())
        try:
            self._look_at_session(connection)
        except BaseException:
            connection.close()
            raise
        connection.pool, connection.epoch, connection.used_at = self, epoch, time.monotonic()
        return connection

    def _connect(self, seconds: float, options: str | None) -> Connection:
        more: dict[str, Any] = {"options": options} if options else {}
        connected: Connection = psycopg2.connect(
            self._url,
            connection_factory=lambda dsn: Connection(dsn, seconds),
            keepalives_idle=30,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=8000,
            **more,
        )
        return connected

    def _look_at_session(self, connection: Connection) -> None:
        """Not libpq's target_session_attrs: PgBouncer would answer with what a server said long ago."""
        cursor = connection.cursor()
        cursor.execute(_SESSION_QUERY)
        read_only, zone, *limits = cursor.fetchone() or ()
        if read_only == "on":
            raise psycopg2.OperationalError("the database is read-only")
        if limits != list(SESSION_TIMEOUTS.values()):
            connection.local_limits = _LOCAL_TIMEOUTS
        if zone not in ("UTC", "Etc/UTC"):
            # A parameter of which PgBouncer keeps track for each client.
            cursor.execute("SET TIME ZONE 'UTC'")
