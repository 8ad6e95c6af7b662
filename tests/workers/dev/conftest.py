"""A checkout with a Procfile of its own, and the launcher that runs it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import makers
from workers.dev.servers import Postgres, Valkey, free_port

ROOT = Path(__file__).parents[3]
SETTINGS = (
    "DATABASE_URL REDIS_URL HOST PORT DATA_DIR APP_ENV PROCESSES JWT_SECRET PASSWORD_PEPPER MAKELEVEL".split()
)
# A package whose other modules are the real ones.
PACKAGE = "__path__.append({!r})\n"

WEB = """
import http.server, os, signal, sys

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Health)
print("serving", os.environ["PROCESS_NAME"], os.environ["APP_ENV"], os.environ.get("JWT_SECRET_OTHER"))
server.serve_forever()
"""


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Checkout:
    """A directory like a checkout, with stubs for what takes long."""

    def __init__(self, root: Path, environ: dict[str, str]) -> None:
        self.root, self.environ = root, environ
        self.started: list[subprocess.Popen[bytes]] = []
        for package in ("api", "db"):
            (root / package).mkdir()
            self.write(f"{package}/__init__.py", PACKAGE.format(str(ROOT / package)))
        self.write("db/migrate.py", "def up(url):\n    return []\n")
        self.write("api/cli.py", "")
        self.write("web.py", WEB)
        self.write("Procfile", "web: python web.py\n")

    def write(self, path: str, text: str) -> Path:
        (self.root / path).write_text(text)
        return self.root / path

    def start(self, *, through: list[str] | None = None, **environ: str) -> subprocess.Popen[bytes]:
        """Starts the launcher, whose output is in `out` and `err`."""
        with (self.root / "out").open("wb") as out, (self.root / "err").open("wb") as err:
            process = subprocess.Popen(
                [*(through or []), sys.executable, "-m", "workers.dev"],
                cwd=self.root,
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def ready(self, process: subprocess.Popen[bytes]) -> None:
        def answers() -> bool:
            assert process.poll() is None, self.out + self.err
            return "Paywright is ready" in self.out

        makers.until(answers, 60)

    def refusal(self, **environ: Any) -> tuple[int, str]:
        """The exit status and the whole stderr of a start that must end by itself."""
        code = self.start(**environ).wait(60)
        return code, self.err

    @property
    def out(self) -> str:
        return (self.root / "out").read_text()

    @property
    def err(self) -> str:
        return (self.root / "err").read_text()

    @property
    def pids(self) -> dict[str, int]:
        return dict(json.loads((self.root / ".data/pids.json").read_text()))

    @property
    def stack(self) -> dict[str, str]:
        lines = (self.root / ".data/stack.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def make_checkout(
    tmp_path: Path, postgres_server: Postgres, valkey_server: Valkey
) -> Iterator[Callable[..., Checkout]]:
    made: list[Checkout] = []

    def make(name: str = "checkout", *, embedded: bool = False) -> Checkout:
        environ = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        environ |= {"PYTHONPATH": str(ROOT), "PORT": str(free_port())}
        if not embedded:
            environ |= {"DATABASE_URL": postgres_server.url, "REDIS_URL": valkey_server.url}
        (tmp_path / name).mkdir()
        made.append(Checkout(tmp_path / name, environ))
        return made[-1]

    yield make
    for checkout in made:
        left = checkout.pids if (checkout.root / ".data/pids.json").exists() else {}
        for process in checkout.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(60)
            if process.poll() is None:
                process.kill()
                process.wait()
        wait_until_gone(left.values())


@pytest.fixture
def checkout(make_checkout: Callable[..., Checkout]) -> Checkout:
    return make_checkout()


def wait_until_gone(pids: Iterable[int]) -> None:
    waiting = list(pids)
    makers.until(lambda: not any(map(alive, waiting)))


@pytest.fixture
def gone() -> Callable[..., Any]:
    return wait_until_gone
