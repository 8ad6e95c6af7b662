"""The pool detects an unavailable database, fails fast meanwhile, and recovers."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from statistics import median
from typing import Any

import peewee
import psycopg2
import pytest

from db import breaker, pool
from db.database import Database, sqlstate
from db.pool import DatabaseUnavailable
from db.prepared import Statement
from tests.frozen import frozen
from tests.makers import until
from workers.dev.servers import Postgres, free_port


class Small(Postgres):
    """A server with few connections."""

    PLACES = 12
    options = f"{Postgres.options} -c max_connections={PLACES} -c superuser_reserved_connections=0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Small(tmp_path_factory.mktemp("own") / "postgres", free_port(), "test")
    server.start()
    with connected(server.url) as cursor:
        cursor.execute("CREATE TABLE written (one integer)")
    yield server
    server.stop()


@pytest.fixture
def make(server: Postgres) -> Iterator[Callable[..., Database]]:
    made: list[Database] = []

    def new(url: str = server.url, connections: int = 8) -> Database:
        database = Database()
        database.configure(url, connections=connections)
        made.append(database)
        return database

    yield new
    for database in made:
        if database.pool:
            database.pool.invalidate()


@contextmanager
def short_timeouts() -> Iterator[None]:
    """Shortens the timeouts where the server does not respond: on a loaded machine one that does takes longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "ACQUIRE_TIMEOUT_S", 0.6)
        patch.setattr(pool, "CONNECT_TIMEOUT_MIN_S", 0.2)
        patch.setattr(pool, "PROBE_TIMEOUT_S", 0.3)
        patch.setattr(breaker, "OPEN_S", 0.3)
        yield


@pytest.fixture
def patient_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe is made as early as a test says, but has the time that a server on a loaded machine needs."""
    probe = pool.Pool._probe

    def patient(self: pool.Pool) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "PROBE_TIMEOUT_S", 60.0)
            return probe(self)

    monkeypatch.setattr(pool.Pool, "_probe", patient)


@pytest.fixture
def own(make: Callable[..., Database]) -> Database:
    """A database of its own: the test may break its connections."""
    return make()


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """An operator's connection: its cursor."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


@contextmanager
def acquired(database: Database) -> Iterator[Database]:
    database.connect()
    try:
        yield database
    finally:
        database.close()


def query(database: Database, sql: str = "SELECT 1") -> Any:
    """Returns the first value of a query, run on a connection acquired for it."""
    with acquired(database):
        row = database.execute_sql(sql).fetchone()
        return row[0] if row else None


def pid(database: Database) -> int:
    return int(query(database, "SELECT pg_backend_pid()"))


def write(database: Database) -> None:
    with acquired(database), database.atomic():
        database.execute_sql("INSERT INTO written VALUES (1)")


def is_writable(database: Database) -> bool:
    try:
        write(database)
    except DatabaseUnavailable:
        return False
    return True


def failing(work: Callable[[], object]) -> float:
    """Returns the seconds until the work failed with DatabaseUnavailable."""
    begun = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        work()
    return time.monotonic() - begun


# --- the pool


def test_a_connection_is_reused_without_a_probe(own, server):
    first = pid(own)
    with connected(server.url) as cursor:
        assert pid(own) == first
        cursor.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (first,))
        assert cursor.fetchone() == ("SELECT pg_backend_pid()",)
        with acquired(own):
            cursor.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (first,))
            assert cursor.fetchone() == ("SELECT pg_backend_pid()",)


def test_a_connection_that_was_idle_for_long_is_probed(own, server, monkeypatch):
    first = pid(own)
    monkeypatch.setattr(pool, "IDLE_CHECK_AFTER_S", 0)
    with acquired(own), connected(server.url) as cursor:
        cursor.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (first,))
        assert cursor.fetchone() == ("SELECT 1",)


def test_a_terminated_idle_connection_is_replaced(own, server):
    first = pid(own)
    with connected(server.url) as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (first,))
    assert pid(own) != first


def test_a_server_restart_fails_no_request(own, server):
    assert query(own) == 1
    server.stop()
    server.start()
    assert query(own) == 1


def test_the_pool_never_exceeds_its_size_and_waiting_threads_get_connections(make):
    small, seen = make(connections=2), set[int]()

    def one(_: int) -> int:
        with acquired(small):
            seen.add(len(small.pool.acquired))
            return int(small.execute_sql("SELECT pg_sleep(0.01), pg_backend_pid()").fetchone()[1])

    with ThreadPoolExecutor(8) as threads:
        pids = set(threads.map(one, range(40)))
    assert len(pids) <= 2
    assert max(seen) <= 2


def test_the_wait_for_a_free_connection_is_bounded(make, monkeypatch):
    small = make(connections=1)
    with acquired(small), ThreadPoolExecutor(1) as thread, pytest.raises(DatabaseUnavailable, match="in use"):
        monkeypatch.setattr(pool, "ACQUIRE_TIMEOUT_S", 0.05)
        thread.submit(query, small).result()
    assert query(small) == 1


def test_a_forked_process_opens_its_own_connections(own):
    with acquired(own):
        mine = own.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
        own.dispose()
    other = pid(own)
    assert other != mine


SLEEP = Statement("test_sleep", "SELECT pg_sleep(%(seconds)s::float8)")
WRITE = Statement("test_write", "INSERT INTO written (one) VALUES (%(one)s::int) RETURNING one")


@pytest.fixture
def sent(own: Database) -> Iterator[list[str]]:
    """What the server is asked from here on, one text for each round trip."""
    with acquired(own):
        own.execute_prepared(WRITE, {"one": 0})
        texts: list[str] = []
        own.query_hooks.append(lambda event: texts.append(event.sql))
        yield texts


def written(server: Postgres) -> set[int]:
    with connected(server.url) as cursor:
        cursor.execute("SELECT one FROM written")
        return {one for (one,) in cursor.fetchall()}


def test_a_transaction_begins_with_its_first_statement(own, sent):
    with own.atomic():
        own.execute_sql("SELECT 1")
        own.execute_sql("SELECT 2")
    assert sent == ["BEGIN; SELECT 1", "SELECT 2", "COMMIT"]


@pytest.mark.parametrize("error", [None, ValueError("no")])
def test_a_transaction_without_statements_sends_nothing(own, sent, error):
    with suppress(ValueError), own.atomic():
        if error:
            raise error
    assert sent == []


def test_the_only_statement_of_a_transaction_commits_by_itself(own, server, sent):
    with own.atomic():
        own.execute_last(WRITE, {"one": 1})
    assert sent == [WRITE.execute]
    assert 1 in written(server)


def test_the_last_of_several_statements_commits_with_them(own, server, sent):
    with pytest.raises(ZeroDivisionError), own.atomic():
        own.execute_sql("SELECT 1")
        own.execute_last(WRITE, {"one": 2})
        raise ZeroDivisionError
    assert sent == ["BEGIN; SELECT 1", WRITE.execute, "ROLLBACK"]
    assert 2 not in written(server)


def test_a_last_statement_that_fails_leaves_the_connection_usable(own, sent):
    with pytest.raises(peewee.DataError), own.atomic():
        own.execute_last(WRITE, {"one": 2**40})
    assert sent == [WRITE.execute]
    with own.atomic():
        own.execute_sql("SELECT 1")


def test_no_statement_follows_the_last_one(own, sent):
    with pytest.raises(RuntimeError, match="follows the last one"), own.atomic():
        own.execute_last(WRITE, {"one": 3})
        own.execute_sql("SELECT 1")


def test_a_last_statement_without_rows_goes_with_the_commit(own, server, sent):
    with own.atomic():
        own.execute_sql("SELECT 1")
        own.execute_with_commit(WRITE, {"one": 4})
    assert sent == ["BEGIN; SELECT 1", f"{WRITE.execute}; COMMIT"]
    assert 4 in written(server)


def test_a_whole_transaction_of_one_statement_is_one_trip(own, server, sent):
    with own.atomic():
        own.execute_with_commit(WRITE, {"one": 5})
    assert sent == [f"BEGIN; {WRITE.execute}; COMMIT"]
    assert 5 in written(server)


def test_the_commit_raises_the_error_of_the_statement_that_goes_with_it(own, server, sent):
    with pytest.raises(peewee.DataError), own.atomic():
        own.execute_prepared(WRITE, {"one": 6})
        own.execute_with_commit(WRITE, {"one": 2**40})
    assert sent[1:] == [f"{WRITE.execute}; COMMIT", "ROLLBACK"]
    assert 6 not in written(server)
    with own.atomic():
        own.execute_sql("SELECT 1")


def test_a_commit_has_time_for_the_statement_that_goes_with_it(own, sent):
    with own.atomic():
        own.execute_sql("SELECT 1")
        own.set_response_timeout(0.05)
        own.execute_with_commit(SLEEP, {"seconds": 0.2})
    assert sent[-1] == f"{SLEEP.execute}; COMMIT"


def test_what_was_to_go_with_the_commit_is_dropped_by_a_rollback(own, server, sent):
    with pytest.raises(ZeroDivisionError), own.atomic():
        own.execute_with_commit(WRITE, {"one": 7})
        raise ZeroDivisionError
    with own.atomic():
        own.execute_sql("SELECT 1")
    assert sent == ["BEGIN; SELECT 1", "COMMIT"]
    assert 7 not in written(server)


@pytest.mark.usefixtures("sent")
def test_nothing_follows_what_goes_with_the_commit(own):
    with pytest.raises(RuntimeError, match="follows the last one"), own.atomic():
        own.execute_with_commit(WRITE, {"one": 8})
        own.execute_sql("SELECT 1")


def test_a_connection_with_an_open_transaction_is_not_reused(own):
    with acquired(own), own.atomic(), pytest.raises(peewee.OperationalError, match="transaction is open"):
        own.close()
    with acquired(own):
        first = own.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
        own.execute_sql("BEGIN")
    assert pid(own) != first


# --- errors of an unavailable database


@pytest.mark.parametrize(
    "state", ["25006", "08006", "08P01", "53100", "53200", "53300", "57P01", "57P03", "58030"]
)
def test_the_sqlstate_shows_that_the_database_is_unavailable(own, state):
    first = pid(own)
    failing(lambda: query(own, f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$"))
    # A connection that failed so is not reused.
    assert pid(own) != first


@pytest.mark.parametrize("state", ["23505", "40001", "40P01", "55P03", "57014", "42601", "22003", "25001"])
def test_an_error_in_a_statement_does_not_mean_unavailable(own, state):
    first = pid(own)
    with pytest.raises(peewee.PeeweeException) as caught:
        query(own, f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$")
    assert not isinstance(caught.value, DatabaseUnavailable)
    assert sqlstate(caught.value) == state
    assert pid(own) == first


def test_a_connection_lost_in_a_transaction_is_reported_as_unavailable(own, server):
    with (
        acquired(own),
        connected(server.url) as cursor,
        pytest.raises(DatabaseUnavailable) as caught,
        own.atomic(),
    ):
        mine = own.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (mine,))
        own.execute_sql("SELECT 1")
    assert "terminat" in str(caught.value)
    assert query(own) == 1


# --- read-only


def test_a_read_only_database_is_unavailable_until_it_accepts_writes(own, server):
    assert is_writable(own)
    with connected(server.url) as cursor:
        cursor.execute("ALTER DATABASE paywright SET default_transaction_read_only = on")
        try:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            with short_timeouts():
                failing(lambda: write(own))
                # Reading requests fail, too: all use the same pool.
                failing(lambda: query(own))
        finally:
            cursor.execute("ALTER DATABASE paywright RESET default_transaction_read_only")
    until(lambda: is_writable(own))


def test_connections_that_became_read_only_are_closed(own, server):
    with acquired(own), ThreadPoolExecutor(1) as thread:
        thread.submit(write, own).result()
        own.execute_sql("SELECT 1")
    with connected(server.url) as cursor:
        cursor.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        cursor.execute("SELECT pg_reload_conf()")
        try:
            until(lambda: not is_writable(own))
            with short_timeouts():
                failing(lambda: query(own))
            assert not own.pool._idle
        finally:
            cursor.execute("ALTER SYSTEM RESET default_transaction_read_only")
            cursor.execute("SELECT pg_reload_conf()")
    until(lambda: is_writable(own))


# --- out of connections


def test_a_full_server_is_unavailable_to_new_connections_only(own, server):
    first = pid(own)
    others: list[Any] = []

    def filled() -> bool:
        """Takes all places but the one of `own`; a backend that still ends frees its place later."""
        with suppress(psycopg2.OperationalError):
            others.append(psycopg2.connect(server.url))
        return len(others) == Small.PLACES - 1

    try:
        until(filled)
        with pytest.raises(psycopg2.OperationalError, match="too many clients"):
            psycopg2.connect(server.url)
        with acquired(own), ThreadPoolExecutor(1) as thread:
            thread.submit(failing, lambda: query(own)).result()
            # The open connection still works.
            assert own.execute_sql("SELECT pg_backend_pid()").fetchone()[0] == first
        assert pid(own) == first
    finally:
        for connection in others:
            connection.close()
    with acquired(own), ThreadPoolExecutor(1) as thread:
        until(lambda: thread.submit(is_writable, own).result())


# --- silent and frozen


class Silent:
    """A server that accepts connections and sends nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"postgresql://somebody@127.0.0.1:{self._listener.getsockname()[1]}/nothing"
        self.callers: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.callers.append(self._listener.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()
        for caller in self.callers:
            caller.close()


def test_a_silent_server_fails_concurrent_connects_at_the_same_time(make):
    silent = Silent()
    silent_database, barrier = make(silent.url, connections=24), threading.Barrier(12, timeout=60)

    def one(_: int) -> float:
        barrier.wait()
        return failing(silent_database.connect)

    try:
        with short_timeouts(), ThreadPoolExecutor(12) as threads:
            took = list(threads.map(one, range(12)))
            # At the same time: one after the other, most would take more than six timeouts. The middle one, since
            # a loaded machine may keep a single thread waiting.
            assert median(took) < 4 * pool.ACQUIRE_TIMEOUT_S
            tried = len(silent.callers)
            for _ in range(100):
                failing(silent_database.connect)
        # Few connections are tried meanwhile, however slow the machine, and not a hundred.
        assert len(silent.callers) <= tried + 10
    finally:
        silent.close()


def test_a_frozen_server_fails_all_waiting_statements_and_recovers(own, server):
    with ThreadPoolExecutor(6) as threads:
        begun = threading.Barrier(7, timeout=60)

        def one() -> float:
            with acquired(own):
                own.execute_sql("SELECT 1")
                begun.wait()
                begun.wait()
                return failing(lambda: own.execute_sql("INSERT INTO written VALUES (1)"))

        waiting = [threads.submit(one) for _ in range(6)]
        begun.wait()
        with frozen(server), short_timeouts():
            begun.wait()
            took = [each.result() for each in waiting]
            assert max(took) < pool.RESPONSE_TIMEOUT_S
            # No idle connection is left that would time out again.
            assert not own.pool._idle
            failing(lambda: query(own))
    until(lambda: is_writable(own))


def test_a_slow_statement_does_not_mean_a_frozen_server(own, monkeypatch, patient_probes):
    monkeypatch.setattr(pool, "PROBE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(breaker, "OPEN_S", 0.0)
    with acquired(own):
        own.execute_sql("SELECT pg_sleep(0.7)")
    assert query(own) == 1


def test_a_slow_statement_beside_terminated_connections_does_not_mean_a_frozen_server(
    own, server, monkeypatch, patient_probes
):
    with acquired(own), ThreadPoolExecutor(1) as thread, connected(server.url) as cursor:
        other = thread.submit(pid, own).result()
        epoch = own.pool._epoch
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (other,))
        monkeypatch.setattr(pool, "PROBE_TIMEOUT_S", 0.2)
        own.execute_sql("SELECT pg_sleep(0.5)")
        assert own.pool._epoch == epoch


def test_a_server_that_froze_while_idle_is_detected_once(own, server, monkeypatch):
    query(own)
    opened, open_new = [], pool.Pool._open

    def observed_open(self: pool.Pool, timeout_s: float) -> Any:
        opened.append(timeout_s)
        return open_new(self, timeout_s)

    with frozen(server), short_timeouts(), monkeypatch.context() as patch:
        patch.setattr(pool, "IDLE_CHECK_AFTER_S", 0)
        patch.setattr(pool.Pool, "_open", observed_open)
        failing(lambda: query(own))
        assert not own.pool._idle
        # The idle connection and the new one share one timeout.
        [left] = opened
        assert left <= pool.ACQUIRE_TIMEOUT_S - pool.PROBE_TIMEOUT_S
    until(lambda: is_writable(own))


def test_one_hanging_backend_fails_alone(own, patient_probes):
    with acquired(own):
        hung = own.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
        os.kill(hung, signal.SIGSTOP)
        try:
            own._thread.conn.response_timeout_s = 0.8
            with short_timeouts():
                failing(lambda: own.execute_sql("SELECT 1"))
        finally:
            os.kill(hung, signal.SIGCONT)
    assert query(own) == 1


def test_a_transaction_can_have_a_longer_response_timeout(own):
    with acquired(own):
        with own.atomic():
            own.set_response_timeout(90)
            assert own._thread.conn.response_timeout_s == 90
        with own.atomic():
            assert own._thread.conn.response_timeout_s == pool.RESPONSE_TIMEOUT_S


# --- timeouts


def settings(database: Database) -> list[str]:
    names = [*pool.SESSION_TIMEOUTS, "TimeZone"]
    return [database.execute_sql(f"SHOW {name}").fetchone()[0] for name in names]


def test_every_statement_has_timeouts(own):
    with acquired(own):
        assert settings(own) == [*pool.SESSION_TIMEOUTS.values(), "UTC"]
        with own.atomic():
            assert settings(own) == [*pool.SESSION_TIMEOUTS.values(), "UTC"]


def test_without_startup_options_each_transaction_sets_its_timeouts(make, server):
    """PgBouncer refuses startup options."""
    bare = make()
    bare.pool._options = None
    with connected(server.url) as cursor:
        cursor.execute("ALTER ROLE paywright SET TimeZone = 'Asia/Tokyo'")
        try:
            with acquired(bare):
                assert settings(bare) == [*pool.SESSION_TIMEOUTS.values(), "UTC"]
                with bare.atomic():
                    assert settings(bare) == [*pool.SESSION_TIMEOUTS.values(), "UTC"]
                    with bare.atomic():
                        assert settings(bare) == [*pool.SESSION_TIMEOUTS.values(), "UTC"]
                with connected(server.url) as other:
                    mine = bare._thread.conn.info.backend_pid
                    other.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", (mine,))
                    assert other.fetchone() == ("idle",)
        finally:
            cursor.execute("ALTER ROLE paywright RESET TimeZone")


def test_transactions_set_no_timeouts_that_the_role_has(make, server):
    bare = make()
    bare.pool._options = None
    with connected(server.url) as cursor:
        for name, value in pool.SESSION_TIMEOUTS.items():
            cursor.execute(f"ALTER ROLE paywright SET {name} = '{value}'")
        try:
            with acquired(bare):
                assert bare._thread.conn.local_timeouts == ""
                assert settings(bare) == [*pool.SESSION_TIMEOUTS.values(), "UTC"]
        finally:
            cursor.execute("ALTER ROLE paywright RESET ALL")


def test_the_server_detects_clients_whose_machine_is_gone(own):
    with acquired(own):
        assert own.execute_sql("SHOW tcp_keepalives_idle").fetchone()[0] == "10"
        assert own.execute_sql("SHOW tcp_user_timeout").fetchone()[0] == "8000"


def test_migrations_have_no_timeout(server, monkeypatch):
    """A connection outside the pool has no response timeout, also in a process with a pool."""
    monkeypatch.setattr(pool, "PROBE_TIMEOUT_S", 0.05)
    with connected(server.url) as cursor:
        cursor.execute("SELECT pg_sleep(0.3)")
