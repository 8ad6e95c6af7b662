"""The connection pool to PostgreSQL: a bounded number of connections, a deadline for each response.

Each process has one pool. No thread waits long for a server that is unavailable. While a statement runs for
long, the pool probes whether the server responds at all, because a slow statement is not a frozen server. If
the server does not respond, every waiting thread fails, no idle connection is used again, and one thread a
second tries to connect.

In the web process a thread is a greenlet, and `waits` is replaced: another greenlet runs during each wait.
"""

import math
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import peewee
import psycopg2
import psycopg2.extensions as driver

from db.breaker import Breaker

# How long a request waits for a free connection, or for a new one.
ACQUIRE_TIMEOUT_S = 2.0
# How long connecting may take at least, when waiting for a free place has used up the time.
CONNECT_TIMEOUT_MIN_S = 0.5
# After this time without a response, a probe checks whether the server responds to any connection. The probe
# may take as long. Together this keeps the 503 of a request within three seconds.
PROBE_TIMEOUT_S = 1.0
# A network device may have dropped a connection that was idle for longer than this: the pool probes it first.
IDLE_CHECK_AFTER_S = 30.0
# The server's statement_timeout must come first: a client that gives up leaves its statement running.
STATEMENT_MARGIN_S = 2.0
RESPONSE_TIMEOUT_S = 5.0 + STATEMENT_MARGIN_S

# statement_timeout < a call's deadline < its lease (actors/job_leases.py): a job that still runs has not been
# replaced.
SESSION_TIMEOUTS = {
    "statement_timeout": "5s",
    "lock_timeout": "3s",
    "idle_in_transaction_session_timeout": "10s",
}
# By these settings the server detects a client whose machine is gone.
_SERVER_KEEPALIVES = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "8000",
}
_SESSION_SETTINGS = {
    **SESSION_TIMEOUTS,
    **_SERVER_KEEPALIVES,
    "timezone": "UTC",
    # Plan a prepared statement once. By default PostgreSQL plans it at each execution if it expects that plan
    # to be cheaper: it assumes ten elements in an array parameter, and finds one.
    "plan_cache_mode": "force_generic_plan",
}
_OPTIONS = " ".join(f"-c {name}={value}" for name, value in _SESSION_SETTINGS.items())
_SESSION_QUERY = (
    "SELECT pg_backend_pid(), current_setting('transaction_read_only'), current_setting('TimeZone'), "
    + ", ".join(f"current_setting('{name}')" for name in SESSION_TIMEOUTS)
)
# Follows BEGIN where the session has no timeouts of its own.
_LOCAL_TIMEOUTS = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in SESSION_TIMEOUTS.items())


class Waits:
    """How this process waits for the server. The web process replaces it (api/greenlets.py)."""

    new_poller = staticmethod(select.poll)

    def for_socket(self, fd: int, to_read: bool, timeout_s: float) -> bool:
        """Waits until a socket can be read, or written; returns False after `timeout_s`."""
        # A new poller each time: the socket may change while connecting.
        poller = self.new_poller()
        poller.register(fd, select.POLLIN if to_read else select.POLLOUT)
        return bool(poller.poll(timeout_s * 1000))

    def for_connection(self, connect: "Callable[[], Connection]") -> "Connection":
        """Connects. libpq then looks up the server's name, and waits for the answer in the kernel."""
        return connect()


waits = Waits()


class DatabaseUnavailable(peewee.OperationalError):
    """The database is unreachable, read-only, full, or out of connections. A retry may succeed."""


class ResponseTimeout(psycopg2.OperationalError):
    """The server did not respond before the deadline; the connection is closed."""


class Connection(driver.connection):
    """A pooled connection and its state."""

    pool: "Pool | None" = None
    # SQL after BEGIN that sets the timeouts; empty if the session has them.
    local_timeouts = ""
    # Whether all transactions of the connection run in one session of the server, without a pooler in
    # between.
    owns_session = False
    # The BEGIN of the open transaction, sent with its first statement; empty when it is sent.
    unsent_begin = ""
    # Whether the open transaction reads no table as a whole that has a suitable index.
    by_index = False
    # The open transaction's last statement and its parameters, sent with its COMMIT.
    unsent_last: tuple[str, Any] | None = None
    # Whether the open transaction is committed already, because its only statement was sent without BEGIN.
    committed = False
    # Whether the connection must be closed instead of used again.
    unusable = False
    epoch = 0
    used_at = 0.0

    def __init__(self, dsn: str, response_timeout_s: float) -> None:
        # The deadline for the next response. The base class already waits for the first one.
        self.response_timeout_s = response_timeout_s
        # The names of the statements that the session has prepared.
        self.prepared: set[str] = set()
        super().__init__(dsn)

    def is_idle(self) -> bool:
        """Returns whether the connection is open and outside a transaction."""
        return not self.closed and self.get_transaction_status() == driver.TRANSACTION_STATUS_IDLE

    def is_quiet(self) -> bool:
        """Returns whether the server has sent nothing. An idle connection only gets its termination."""
        return not waits.for_socket(self.fileno(), True, 0)

    def probe(self) -> None:
        """Waits up to PROBE_TIMEOUT_S for any response. Raises psycopg2.Error."""
        self.response_timeout_s = PROBE_TIMEOUT_S
        self.cursor().execute("SELECT 1")


def wait_for_response(connection: driver.connection) -> None:
    """Waits for the server's response, up to the connection's timeout. Raises ResponseTimeout.

    The kernel of a frozen server still acknowledges packets, so neither keepalives nor TCP timeouts detect
    it. psycopg2 closes a connection whose wait raises. A connection outside the pool (migrations) has no
    timeout.
    """
    pooled = connection if isinstance(connection, Connection) else None
    deadline = time.monotonic() + (pooled.response_timeout_s if pooled else math.inf)
    while (state := connection.poll()) != driver.POLL_OK:
        remaining_s = deadline - time.monotonic()
        wait_s = max(0.0, min(remaining_s, PROBE_TIMEOUT_S))
        if waits.for_socket(connection.fileno(), state == driver.POLL_READ, wait_s):
            continue
        if remaining_s <= PROBE_TIMEOUT_S:
            raise ResponseTimeout("the database did not respond in time")
        if pooled and pooled.pool and not pooled.pool.is_responsive():
            raise ResponseTimeout("the database does not respond to any connection")


class Pool:
    """At most `size` connections, opened on demand and outside any lock."""

    def __init__(self, url: str, size: int) -> None:
        self.url, self.size = url, size
        self._slots = threading.BoundedSemaphore(size)
        # Last in, first out: surplus connections stay idle.
        self._idle: deque[Connection] = deque()
        self.acquired: set[Connection] = set()
        self._epoch = 0
        self._options: str | None = _OPTIONS
        self._breaker = Breaker()
        self._probe_lock = threading.Lock()
        self._probed_at, self._responded = 0.0, True

    def acquire(self) -> Connection:
        """Returns a connection, which the caller must `release`. Raises DatabaseUnavailable."""
        deadline = time.monotonic() + ACQUIRE_TIMEOUT_S
        if not self._slots.acquire(timeout=ACQUIRE_TIMEOUT_S):
            raise DatabaseUnavailable(f"all {self.size} connections of this process are in use")
        try:
            connection = self._reuse() or self._connect_new(deadline)
        except BaseException:
            self._slots.release()
            raise
        connection.response_timeout_s = RESPONSE_TIMEOUT_S
        self.acquired.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """Makes a connection available again, or closes it if it cannot be reused."""
        self.acquired.discard(connection)
        try:
            if connection.is_idle() and not connection.unusable and connection.epoch == self._epoch:
                connection.used_at = time.monotonic()
                self._idle.append(connection)
            else:
                connection.close()
        finally:
            self._slots.release()

    def invalidate(self) -> None:
        """Closes all idle connections now and all acquired ones when they are released."""
        self._epoch += 1
        while connection := self._pop():
            connection.close()

    def is_responsive(self) -> bool:
        """Returns whether the server responds to any connection. If not, every waiting thread fails at once.

        One thread probes; threads that arrive meanwhile use its result.
        """
        arrived_at = time.monotonic()
        with self._probe_lock:
            if self._probed_at < arrived_at:
                self._responded = self._probe()
                self._probed_at = time.monotonic()
                if not self._responded:
                    self._breaker.record_failure()
                    self.invalidate()
            return self._responded

    def _probe(self) -> bool:
        """Returns whether the server responds to an idle connection, or to a new one if none is idle."""
        try:
            if connection := self._pop_idle():
                connection.probe()
            else:
                connection = self._open(PROBE_TIMEOUT_S)
        except ResponseTimeout:
            return False
        except psycopg2.Error:
            # A refusal is a response, too.
            return True
        if len(self.acquired) + len(self._idle) < self.size:
            self._idle.append(connection)
        else:
            connection.close()
        return True

    def _pop(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _pop_idle(self) -> Connection | None:
        """Returns an idle connection that the server has not terminated."""
        while connection := self._pop():
            if connection.epoch == self._epoch and connection.is_quiet():
                return connection
            connection.close()
        return None

    def _reuse(self) -> Connection | None:
        """Returns an idle connection, probed if it was idle for long; None if there is none."""
        connection = self._pop_idle()
        if connection and time.monotonic() - connection.used_at > IDLE_CHECK_AFTER_S:
            try:
                connection.probe()
            except psycopg2.Error:
                connection.close()
                # The other idle connections have been idle for even longer.
                self.invalidate()
                return None
        return connection

    def _connect_new(self, deadline: float) -> Connection:
        """Opens a connection. Raises DatabaseUnavailable, also while the circuit breaker is open."""
        if not self._breaker.allows():
            raise DatabaseUnavailable("the database was unavailable less than a second ago")
        try:
            connection = self._open(max(CONNECT_TIMEOUT_MIN_S, deadline - time.monotonic()))
        except psycopg2.Error as error:
            self._breaker.record_failure()
            raise DatabaseUnavailable(error, *error.args) from error
        self._breaker.record_success()
        return connection

    def _open(self, timeout_s: float) -> Connection:
        """Connects to a server that accepts writes. Raises psycopg2.Error."""
        deadline, epoch, options = time.monotonic() + timeout_s, self._epoch, self._options
        try:
            connection = self._connect(deadline, options)
        except psycopg2.OperationalError as error:
            # PgBouncer does not support `options`.
            if not options or "unsupported startup parameter" not in str(error):
                raise
            self._options = None
            connection = self._connect(deadline, None)
        connection.autocommit = True
        connection.response_timeout_s = max(0.0, deadline - time.monotonic())
        try:
            self._check_session(connection)
        except BaseException:
            connection.close()
            raise
        connection.pool, connection.epoch, connection.used_at = self, epoch, time.monotonic()
        return connection

    def _connect(self, deadline: float, options: str | None) -> Connection:
        # The deadline includes the wait for a native thread (api/greenlets.py).
        return waits.for_connection(
            lambda: psycopg2.connect(
                self.url,
                connection_factory=lambda dsn: Connection(dsn, max(0.0, deadline - time.monotonic())),
                keepalives_idle=30,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=8000,
                options=options,
            )
        )

    def _check_session(self, connection: Connection) -> None:
        """Refuses a read-only server, and sets timeouts and time zone that the session does not have.

        libpq's target_session_attrs is no use: PgBouncer replies with what a server said long ago.
        """
        cursor = connection.cursor()
        cursor.execute(_SESSION_QUERY)
        pid, read_only, time_zone, *timeouts = cursor.fetchone() or ()
        if read_only == "on":
            raise psycopg2.OperationalError("the database is read-only")
        if timeouts != list(SESSION_TIMEOUTS.values()):
            connection.local_timeouts = _LOCAL_TIMEOUTS
        # A pooler that shares sessions gives each client a process id that it made up.
        connection.owns_session = pid == connection.get_backend_pid() and not connection.local_timeouts
        if time_zone not in ("UTC", "Etc/UTC"):
            # PgBouncer tracks this parameter for each client.
            cursor.execute("SET TIME ZONE 'UTC'")
