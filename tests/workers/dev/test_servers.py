"""The embedded servers: they keep their data, and nothing keeps them from starting."""

import os
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis

from db.core.settings import InvalidSetting
from workers.dev import Failure, servers
from workers.dev.servers import Postgres, Valkey, free_port

as_root = pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="root on Linux only")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cluster for all of them, in a closed (0700) directory, as a home may be."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture
def postgres(place: Path) -> Iterator[Postgres]:
    server = Postgres(place / "postgres", free_port(), "a-password")
    yield server
    server.stop()


@pytest.fixture
def valkey(place: Path) -> Iterator[Valkey]:
    server = Valkey(place / "valkey", free_port(), "a-password")
    yield server
    server.stop()


def query(server: Postgres, sql: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(server.url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []


def test_postgres_is_durable_speaks_utf8_and_asks_for_its_password(postgres):
    postgres.start()
    shown = ("fsync", "synchronous_commit", "server_encoding", "listen_addresses", "unix_socket_directories")
    assert [query(postgres, f"SHOW {name}")[0][0] for name in shown] == ["on", "on", "UTF8", "127.0.0.1", ""]
    assert query(postgres, "SELECT current_user, current_database()") == [("paywright", "paywright")]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(postgres.url.replace("a-password", "a-guess"))


@as_root
@pytest.mark.parametrize("way", servers.ROOT_RUNS_AS.items(), ids=["namespace", "nobody"])
def test_root_runs_postgres_without_opening_a_directory(place, postgres, monkeypatch, way):
    monkeypatch.setattr(servers, "ROOT_RUNS_AS", dict([way]))
    parents = [(parent.stat().st_mode, parent.stat().st_uid) for parent in place.parents]
    postgres.start()
    query(postgres, "CREATE TABLE IF NOT EXISTS seen (way text)")
    assert "nobody" in subprocess.check_output(["ps", "-o", "user=", "-p", str(postgres.pid)], text=True) or (
        Path(f"/proc/{postgres.pid}/uid_map").read_text().split()[1:] == ["0", "1"]
    )
    postgres.stop()
    assert parents == [(parent.stat().st_mode, parent.stat().st_uid) for parent in place.parents]


@as_root
def test_root_with_no_way_out_is_told_of_database_url(postgres, monkeypatch):
    monkeypatch.setattr(servers, "ROOT_RUNS_AS", {})
    with pytest.raises(InvalidSetting, match="DATABASE_URL: is not set"):
        postgres.start()


def test_postgres_comes_back_from_kill_9_although_a_backend_is_still_computing(postgres):
    postgres.start()
    query(postgres, "CREATE TABLE IF NOT EXISTS kept (n int); INSERT INTO kept VALUES (1)")
    [(before,)] = query(postgres, "SELECT count(*) FROM kept")

    def compute() -> None:
        with suppress(psycopg2.OperationalError):
            query(postgres, "SELECT count(*) FROM generate_series(1, 10000000000)")

    client = threading.Thread(target=compute)
    client.start()
    while query(postgres, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%10000000000%'") == [(1,)]:
        pass
    postgres.process.kill()  # a zombie, which nobody has reaped yet
    again = Postgres(postgres.directory, free_port(), postgres.password)
    again.start()
    client.join()
    assert query(again, "SELECT count(*) FROM kept") == [(before,)]
    again.stop()


@pytest.mark.parametrize("stranger", [1, os.getpid(), 4_000_000], ids=["init", "a live process", "nobody"])
def test_a_recycled_pid_in_postmaster_pid_does_not_matter(postgres, stranger):
    postgres.start()
    file = postgres.directory / "postmaster.pid"
    lines = file.read_text().splitlines()
    postgres.process.kill()
    postgres.process.wait()
    file.write_text("\n".join([str(stranger), *lines[1:], ""]))
    postgres.start()
    assert query(postgres, "SELECT 1") == [(1,)]


def test_a_postmaster_that_was_left_behind_is_stopped_first(postgres):
    postgres.start()
    left = postgres.pid
    again = Postgres(postgres.directory, free_port(), postgres.password)
    again.start()
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE
    assert query(again, "SELECT 1") == [(1,)]
    again.stop()


def test_an_initdb_that_was_killed_leaves_nothing_half_done(tmp_path):
    (tmp_path / "postgres.new/base").mkdir(parents=True)
    server = Postgres(tmp_path / "postgres", free_port(), "a-password")
    server.start()
    server.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["postgres", "postgres.log"]


def test_a_server_that_cannot_start_says_why_in_one_line(postgres):
    blocker = Valkey(postgres.directory.parent / "blocker", postgres.port, "a-password")
    blocker.start()
    with pytest.raises(Failure, match=r"\Apostgres does not start: .*TCP/IP sockets.*\Z"):
        postgres.start()
    blocker.stop()


def test_valkey_keeps_what_it_was_told_through_kill_9(valkey):
    valkey.start()
    with redis.Redis.from_url(valkey.url) as client:
        client.set("kept", "yes")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    # one second is what `everysec` puts at risk of a power cut; a killed process has written all it answered
    valkey.process.kill()
    valkey.process.wait()
    valkey.start()
    with redis.Redis.from_url(valkey.url) as client:
        assert client.get("kept") == b"yes"
    with (
        redis.Redis.from_url(f"redis://127.0.0.1:{valkey.port}") as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    assert (valkey.directory / "valkey.conf").stat().st_mode & 0o777 == 0o600


def test_a_server_dies_with_the_process_that_started_it(tmp_path, gone):
    if sys.platform != "linux":
        pytest.skip("Linux only")
    code = f"""
import time
from pathlib import Path
from typing import Any
from workers.dev.servers import Valkey, free_port
server = Valkey(Path({str(tmp_path)!r}) / "valkey", free_port(), "a-password")
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path.cwd()) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.send_signal(signal.SIGKILL)
    gone([pid])


def test_a_chosen_binary_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("PG_BIN", "/nowhere")
    monkeypatch.setenv("VALKEY_BIN", "/nowhere")
    with pytest.raises(InvalidSetting, match=r"PG_BIN: .*/nowhere"):
        servers.postgres_bin()
    with pytest.raises(InvalidSetting, match=r"VALKEY_BIN: .*/nowhere"):
        servers.valkey_server()


@pytest.mark.parametrize("by", ["VALKEY_BIN", "PATH"])
def test_a_redis_server_that_is_a_link_keeps_the_name_by_which_it_acts(tmp_path, monkeypatch, by):
    program = tmp_path / "redis-check-rdb"
    program.touch(0o755)
    link = tmp_path / "bin" / "redis-server"
    link.parent.mkdir()
    link.symlink_to(program)
    monkeypatch.delenv("VALKEY_BIN", raising=False)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))  # where no wheel is installed
    monkeypatch.setenv(by, str(link if by == "VALKEY_BIN" else link.parent))
    assert servers.valkey_server() == link


def test_the_programs_of_postgres_are_where_a_link_to_initdb_leads(tmp_path, monkeypatch):
    initdb = tmp_path / "lib" / "initdb"
    initdb.parent.mkdir()
    initdb.touch(0o755)
    (tmp_path / "initdb").symlink_to(initdb)
    monkeypatch.setenv("PG_BIN", str(tmp_path))
    assert servers.postgres_bin() == initdb.parent


def test_two_that_choose_a_port_at_the_same_time_do_not_choose_the_same():
    wanted = free_port()
    other = "from workers.dev.servers import free_port; print(free_port({}))"
    chosen = subprocess.run(
        [sys.executable, "-c", other.format(wanted)], capture_output=True, text=True, check=True
    )
    assert int(chosen.stdout) != wanted
    assert free_port(wanted) != wanted
