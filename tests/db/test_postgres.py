"""A database that is away is known by what it says, costs nobody much time, and is used again when it is back."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import peewee
import psycopg2
import pytest

from db import breaker, pool, postgres
from db.postgres import Database, DatabaseUnavailable
from tests.frozen import frozen
from tests.makers import until
from workers.dev.servers import Postgres, free_port


class Small(Postgres):
    """A server with room for few."""

    options = f"{Postgres.options} -c max_connections=12 -c superuser_reserved_connections=0"


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


@pytest.fixture
def own(make: Callable[..., Database]) -> Database:
    """A database of the test's own, so that no other meets what is done to it."""
    return make()


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A cursor of an operator's."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


@contextmanager
def taken(database: Database) -> Iterator[Database]:
    database.connect()
    try:
        yield database
    finally:
        database.close()


def ask(database: Database, sql: str = "SELECT 1") -> Any:
    """The answer to a question, on a connection taken for it."""
    with taken(database):
        row = database.execute_sql(sql).fetchone()
        return row[0] if row else None


def pid(database: Database) -> int:
    return int(ask(database, "SELECT pg_backend_pid()"))


def write(database: Database) -> None:
    with taken(database), database.atomic():
        database.execute_sql("INSERT INTO written VALUES (1)")


def answers(database: Database) -> bool:
    try:
        write(database)
    except DatabaseUnavailable:
        return False
    return True


def failing(work: Callable[[], object]) -> float:
    """How long it took until the database was found to be away, in seconds."""
    begun = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        work()
    return time.monotonic() - begun


# --- the pool


def test_a_connection_is_used_again_without_asking_whether_it_lives(own, server):
    first = pid(own)
    with connected(server.url) as cursor:
        assert pid(own) == first
        cursor.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (first,))
        assert cursor.fetchone() == ("SELECT pg_backend_pid()",)
        with taken(own):
            cursor.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (first,))
            assert cursor.fetchone() == ("SELECT pg_backend_pid()",)


def test_one_that_was_idle_for_long_is_asked_first(own, server, monkeypatch):
    first = pid(own)
    monkeypatch.setattr(pool, "IDLE_CHECK_AFTER_S", 0)
    with taken(own), connected(server.url) as cursor:
        cursor.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (first,))
        assert cursor.fetchone() == ("SELECT 1",)


def test_a_connection_that_the_server_ended_is_replaced_before_anybody_notices(own, server):
    first = pid(own)
    with connected(server.url) as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (first,))
    assert pid(own) != first


def test_a_restarted_server_costs_no_request(own, server):
    assert ask(own) == 1
    server.stop()
    server.start()
    assert ask(own) == 1


def test_there_are_never_more_connections_than_allowed_and_who_waits_gets_one(make):
    small, seen = make(connections=2), set[int]()

    def one(_: int) -> int:
        with taken(small):
            seen.add(len(small.pool.acquired))
            return int(small.execute_sql("SELECT pg_sleep(0.01), pg_backend_pid()").fetchone()[1])

    with ThreadPoolExecutor(8) as threads:
        pids = set(threads.map(one, range(40)))
    assert len(pids) <= 2
    assert max(seen) <= 2


def test_who_finds_no_free_connection_waits_a_bounded_time(make, monkeypatch):
    small = make(connections=1)
    monkeypatch.setattr(pool, "ACQUIRE_TIMEOUT_S", 0.05)
    with taken(small), ThreadPoolExecutor(1) as thread, pytest.raises(DatabaseUnavailable, match="in use"):
        thread.submit(ask, small).result()
    assert ask(small) == 1


def test_a_forked_process_opens_its_own_connections(own):
    with taken(own):
        mine = own.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
        own.dispose()
    other = pid(own)
    assert other != mine


def test_an_open_transaction_is_not_given_back(own):
    with taken(own), own.atomic(), pytest.raises(peewee.OperationalError, match="transaction is open"):
        own.close()
    with taken(own):
        first = own.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
        own.execute_sql("BEGIN")
    assert pid(own) != first


# --- which errors say that it is away


@pytest.mark.parametrize(
    "state", ["25006", "08006", "08P01", "53100", "53200", "53300", "57P01", "57P03", "58030"]
)
def test_the_server_says_by_its_code_that_it_is_away(own, state):
    first = pid(own)
    failing(lambda: ask(own, f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$"))
    # A connection that failed so is not used again.
    assert pid(own) != first


@pytest.mark.parametrize("state", ["23505", "40001", "40P01", "55P03", "57014", "42601", "22003", "25001"])
def test_what_is_wrong_with_one_statement_is_no_sign_of_it(own, state):
    first = pid(own)
    with pytest.raises(peewee.PeeweeException) as caught:
        ask(own, f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$")
    assert not postgres.is_unavailable(caught.value)
    assert postgres.sqlstate(caught.value) == state
    assert pid(own) == first


def test_who_loses_the_connection_in_a_transaction_hears_of_that_and_of_nothing_else(own, server):
    with (
        taken(own),
        connected(server.url) as cursor,
        pytest.raises(DatabaseUnavailable) as caught,
        own.atomic(),
    ):
        mine = own.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (mine,))
        own.execute_sql("SELECT 1")
    assert "terminat" in str(caught.value)
    assert ask(own) == 1


# --- read-only


def test_a_database_that_turned_read_only_is_away_for_all_and_back_by_itself(own, server):
    assert answers(own)
    with connected(server.url) as cursor:
        cursor.execute("ALTER DATABASE paywright SET default_transaction_read_only = on")
        try:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            failing(lambda: write(own))
            # Who only reads is not let in either: all ask the same.
            failing(lambda: ask(own))
        finally:
            cursor.execute("ALTER DATABASE paywright RESET default_transaction_read_only")
    until(lambda: answers(own), 20)


def test_connections_that_turned_read_only_under_way_are_thrown_away(own, server):
    with taken(own), ThreadPoolExecutor(1) as thread:
        thread.submit(write, own).result()
        own.execute_sql("SELECT 1")
    with connected(server.url) as cursor:
        cursor.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        cursor.execute("SELECT pg_reload_conf()")
        try:
            until(lambda: not answers(own), 20)
            failing(lambda: ask(own))
            assert not own.pool._idle
        finally:
            cursor.execute("ALTER SYSTEM RESET default_transaction_read_only")
            cursor.execute("SELECT pg_reload_conf()")
    until(lambda: answers(own), 20)


# --- full


def test_without_room_for_another_connection_it_is_away_and_those_that_are_open_go_on(own, server):
    first = pid(own)
    others = []
    try:
        with pytest.raises(psycopg2.OperationalError, match="too many clients"):
            while True:
                others.append(psycopg2.connect(server.url))
        with taken(own), ThreadPoolExecutor(1) as thread:
            thread.submit(failing, lambda: ask(own)).result()
            # The one that is open serves on.
            assert own.execute_sql("SELECT pg_backend_pid()").fetchone()[0] == first
        assert pid(own) == first
    finally:
        for connection in others:
            connection.close()
    with taken(own), ThreadPoolExecutor(1) as thread:
        until(lambda: thread.submit(answers, own).result(), 20)


# --- silent and frozen


class Silent:
    """Takes connections and says nothing on them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"postgresql://somebody@127.0.0.1:{self._listener.getsockname()[1]}/nothing"
        self.callers: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                self.callers.append(self._listener.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()
        for caller in self.callers:
            caller.close()


def test_a_server_that_says_nothing_keeps_nobody_waiting_for_another(make):
    silent = Silent()
    try:
        mute, gate = make(silent.url, connections=24), threading.Barrier(12, timeout=60)

        def one(_: int) -> float:
            gate.wait()
            return failing(mute.connect)

        with ThreadPoolExecutor(12) as threads:
            took = list(threads.map(one, range(12)))
        # Not one after the other, which were 24 s.
        assert max(took) < 3 * pool.ACQUIRE_TIMEOUT_S
        asked = len(silent.callers)
        for _ in range(100):
            failing(mute.connect)
        # Once in the second that this takes, or twice on a slow day, but not a hundred times.
        assert len(silent.callers) <= asked + 10
    finally:
        silent.close()


def test_a_frozen_server_fails_whoever_waits_and_is_used_again_when_it_thaws(own, server):
    with ThreadPoolExecutor(6) as threads:
        begun = threading.Barrier(7, timeout=60)

        def one() -> float:
            with taken(own):
                own.execute_sql("SELECT 1")
                begun.wait()
                begun.wait()
                return failing(lambda: own.execute_sql("INSERT INTO written VALUES (1)"))

        waiting = [threads.submit(one) for _ in range(6)]
        begun.wait()
        with frozen(server):
            begun.wait()
            took = [each.result() for each in waiting]
            assert max(took) < pool.RESPONSE_TIMEOUT_S
            # Nothing is left that would have to find it out by itself.
            assert not own.pool._idle
            failing(lambda: ask(own))
    until(lambda: answers(own), 30)


def test_a_slow_statement_is_not_taken_for_a_frozen_server(own, monkeypatch):
    monkeypatch.setattr(pool, "PROBE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(breaker, "OPEN_S", 0.0)
    with taken(own):
        own.execute_sql("SELECT pg_sleep(0.7)")
    assert ask(own) == 1


def test_a_slow_statement_is_no_sign_either_while_idle_connections_were_ended(own, server, monkeypatch):
    monkeypatch.setattr(pool, "PROBE_TIMEOUT_S", 0.2)
    with taken(own), ThreadPoolExecutor(1) as thread, connected(server.url) as cursor:
        other = thread.submit(pid, own).result()
        epoch = own.pool._epoch
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (other,))
        own.execute_sql("SELECT pg_sleep(0.5)")
        assert own.pool._epoch == epoch


def test_a_server_that_froze_while_nobody_asked_is_found_out_once(own, server, monkeypatch):
    ask(own)
    monkeypatch.setattr(pool, "IDLE_CHECK_AFTER_S", 0)
    with frozen(server):
        # The idle connection and a new one share the time.
        assert failing(lambda: ask(own)) < 2 * pool.ACQUIRE_TIMEOUT_S
        assert not own.pool._idle
    until(lambda: answers(own), 30)


def test_a_backend_that_hangs_alone_fails_alone(own, monkeypatch):
    monkeypatch.setattr(pool, "RESPONSE_TIMEOUT_S", 1.5)
    with taken(own):
        hung = own.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
        os.kill(hung, signal.SIGSTOP)
        try:
            failing(lambda: own.execute_sql("SELECT 1"))
        finally:
            os.kill(hung, signal.SIGCONT)
    assert ask(own) == 1


def test_who_says_so_may_wait_longer_to_the_end_of_the_transaction(own, monkeypatch):
    with taken(own):
        with own.atomic():
            own.set_response_timeout(90)
            assert own._thread.conn.response_timeout_s == 90
        with own.atomic():
            assert own._thread.conn.response_timeout_s == pool.RESPONSE_TIMEOUT_S


# --- time limits


def settings(database: Database) -> list[str]:
    names = [*pool.SESSION_TIMEOUTS, "TimeZone"]
    return [database.execute_sql(f"SHOW {name}").fetchone()[0] for name in names]


def test_every_statement_has_its_time_limits(own):
    with taken(own):
        assert settings(own) == [*pool.SESSION_TIMEOUTS.values(), "UTC"]
        with own.atomic():
            assert settings(own) == [*pool.SESSION_TIMEOUTS.values(), "UTC"]


def test_where_no_options_are_taken_transactions_bring_their_limits_along(make, server):
    """As behind PgBouncer, which refuses them."""
    bare = make()
    bare.pool._options = None
    with connected(server.url) as cursor:
        cursor.execute("ALTER ROLE paywright SET TimeZone = 'Asia/Tokyo'")
        try:
            with taken(bare):
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


def test_a_role_that_has_the_limits_spares_the_transactions_theirs(make, server):
    bare = make()
    bare.pool._options = None
    with connected(server.url) as cursor:
        for name, value in pool.SESSION_TIMEOUTS.items():
            cursor.execute(f"ALTER ROLE paywright SET {name} = '{value}'")
        try:
            with taken(bare):
                assert bare._thread.conn.local_timeouts == ""
                assert settings(bare) == [*pool.SESSION_TIMEOUTS.values(), "UTC"]
        finally:
            cursor.execute("ALTER ROLE paywright RESET ALL")


def test_the_server_notices_a_client_whose_machine_is_gone(own):
    with taken(own):
        assert own.execute_sql("SHOW tcp_keepalives_idle").fetchone()[0] == "10"
        assert own.execute_sql("SHOW tcp_user_timeout").fetchone()[0] == "8000"


def test_a_migration_may_take_as_long_as_it_takes(server, monkeypatch):
    """Connections that are not the pool's have no limits, also where there is a pool in the process."""
    monkeypatch.setattr(pool, "PROBE_TIMEOUT_S", 0.05)
    with connected(server.url) as cursor:
        cursor.execute("SELECT pg_sleep(0.3)")
