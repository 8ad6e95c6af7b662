"""The stack under measurement, started as `make run` starts it, on stores that the peer and pgbench share."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from tests.bench.database import Database
from tests.makers import until
from workers.dev.servers import HOST, Postgres, Server, Valkey, free_port

# The limits are counted for every request as ever, and refuse none: all requests come from one address.
UNREACHED = "100000000/15minutes"
SETTINGS = {
    "APP_ENV": "development",
    "WEB_CONCURRENCY": "2",
    "BCRYPT_ROUNDS": "10",
    "RATE_LIMIT_API": UNREACHED,
    "RATE_LIMIT_AUTH": UNREACHED,
    "LOG_FORMAT": "json",
}
NO_WORKERS = "payments=0,psp=0,events=0,mail=0,subscribers=0,relay=0,scheduler=0"
# Without compiled files, which the Makefile asks for too, each process would compile all that it imports: a web
# process then has 0.7 MB more.
NOT_INHERITED = {"MAKELEVEL", "PYTHONDONTWRITEBYTECODE"}
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 40


class CountingPostgres(Postgres):
    """PostgreSQL as `make run` starts it; it counts statements while `Database.counting` asks it to."""

    options = f"{Postgres.options} -c shared_preload_libraries=pg_stat_statements"


class Stores:
    """PostgreSQL and Valkey, each with as many databases as there are programs to measure."""

    def __init__(self, directory: Path) -> None:
        self.postgres = CountingPostgres(directory / "postgres", free_port(), "bench")
        self.valkey = Valkey(directory / "valkey", free_port(), "bench")

    def database(self, name: str) -> str:
        """Creates an empty database; returns its URL."""
        server = Database(self.postgres.url)
        server.set("pg_stat_statements.track", "none")
        server.rows(f"CREATE DATABASE {name}")
        server.close()
        return f"{self.postgres.url.rpartition('/')[0]}/{name}"

    def redis(self, number: int) -> str:
        """Returns the URL of one of Valkey's databases."""
        return f"{self.valkey.url.rpartition('/')[0]}/{number}"


@contextmanager
def stores(directory: Path) -> Iterator[Stores]:
    """Starts both servers; stops them at the end."""
    made = Stores(directory)
    servers: tuple[Server, ...] = (made.postgres, made.valkey)
    with ExitStack() as running:
        for server in servers:
            server.start()
            running.callback(server.stop)
        yield made


@contextmanager
def launched(command: list[str], log: Path, url: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program until the end of the block, from the moment at which its URL answers."""
    log.parent.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    with log.open("wb") as output:
        program = subprocess.Popen(command, env={**inherited, **environ}, stdout=output, stderr=output)
    try:
        until(lambda: program.poll() is not None or answers(url), START_TIMEOUT_S)
        if program.poll() is not None:
            raise RuntimeError(f"{command[-1]} ended: {log.read_text(errors='replace')[-2000:]}")
        yield program
    finally:
        program.send_signal(signal.SIGINT)
        try:
            program.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            program.kill()


def answers(url: str) -> bool:
    """Whether a GET of this URL is answered with success."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=2):
            return True
    except OSError:
        return False


class Paywright:
    """The running stack: where its API is, and where its processes are named."""

    def __init__(self, directory: Path, database_url: str, redis_url: str, port: int) -> None:
        self.directory, self.database_url, self.redis_url, self.port = (
            directory,
            database_url,
            redis_url,
            port,
        )
        self.url = f"http://{HOST}:{port}"
        self.pids = directory / "pids.json"


@contextmanager
def paywright(
    stores: Stores, directory: Path, *, name: str, redis_number: int, processes: str = ""
) -> Iterator[Paywright]:
    """Starts the processes of the Procfile on an empty database of this name."""
    stack = Paywright(directory / name, stores.database(name), stores.redis(redis_number), free_port())
    environ = {
        **SETTINGS,
        "PROCESSES": processes,
        "DATA_DIR": str(stack.directory),
        "DATABASE_URL": stack.database_url,
        "REDIS_URL": stack.redis_url,
        "PORT": str(stack.port),
    }
    command = [sys.executable, "-m", "workers.dev"]
    with launched(command, directory / f"{name}.log", f"{stack.url}/health", **environ):
        until((stack.directory / "stack.env").exists, START_TIMEOUT_S)
        yield stack
