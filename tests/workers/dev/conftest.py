"""A checkout with a Procfile of its own, and the launcher that runs it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.dev.servers import free_port

ROOT = Path(__file__).parents[3]
OURS = (
    "DATABASE_URL REDIS_URL HOST PORT DATA_DIR APP_ENV PROCESSES JWT_SECRET PASSWORD_PEPPER MAKELEVEL".split()
)

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
print("serving", os.environ["APP_ENV"], len(os.environ["JWT_SECRET"]))
server.serve_forever()
"""


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        pass
    if sys.platform == "linux":
        return False
    return subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False).returncode == 0


class Checkout:
    def __init__(self, root: Path, environ: dict[str, str]) -> None:
        self.root, self.environ = root, environ
        self.started: list[subprocess.Popen[bytes]] = []
        for package in ("api", "db"):
            (root / package).mkdir()
            self.write(f"{package}/__init__.py", "")
        self.write("db/migrate.py", "def up(url):\n    return []\n")
        self.write("db/auth.py", "def by_email(email):\n    return None\n")
        self.write(
            "db/postgres.py",
            "import contextlib\nconnection = contextlib.nullcontext\ndef open(url, connections): pass\n",
        )
        self.write("api/people.py", "")
        self.write("web.py", WEB)
        self.write("Procfile", "web: python web.py\n")

    def write(self, path: str, text: str) -> Path:
        (self.root / path).write_text(text)
        return self.root / path

    def start(self, *, through: list[str] | None = None, stdout: int | None = None, **environ: str):
        """The launcher; what it says is in `out` and `err`."""
        with (self.root / "out").open("wb") as out, (self.root / "err").open("wb") as err:
            process = subprocess.Popen(
                [*(through or []), sys.executable, "-m", "workers.dev"],
                cwd=self.root,
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=err,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def ready(self, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
        def answers() -> bool:
            assert process.poll() is None, self.out + self.err
            return (self.root / ".data/stack.env").exists() and "Paywright is ready" in self.out

        until(answers, seconds)

    def refusal(self, **environ: Any) -> tuple[int, str]:
        """The exit code and the whole stderr of a start that must end by itself."""
        code = self.start(**environ).wait(30)
        return code, self.err

    @property
    def out(self) -> str:
        return (self.root / "out").read_text()

    @property
    def err(self) -> str:
        return (self.root / "err").read_text()

    @property
    def pids(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.root / ".data/pids.json").read_text())
        return found

    @property
    def stack(self) -> dict[str, str]:
        lines = (self.root / ".data/stack.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def make_checkout(tmp_path: Path) -> Iterator[Callable[..., Checkout]]:
    made: list[Checkout] = []
    with contextlib.ExitStack() as listeners:

        def make(name: str = "checkout", *, embedded: bool = False) -> Checkout:
            environ = {name: value for name, value in os.environ.items() if name not in OURS}
            environ |= {"PYTHONPATH": str(ROOT), "PORT": str(free_port())}
            if not embedded:  # somebody listens there, which is all the launcher asks
                for setting, scheme in (("DATABASE_URL", "postgresql"), ("REDIS_URL", "redis")):
                    listener = listeners.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
                    environ[setting] = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/0"
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
                    process.wait(20)
            if process.poll() is None:
                process.kill()
                process.wait()
        for pid in left.values():
            until(lambda pid=pid: not alive(pid), 20)  # type: ignore[misc]


@pytest.fixture
def checkout(make_checkout: Callable[..., Checkout]) -> Checkout:
    return make_checkout()


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    return until


@pytest.fixture
def gone() -> Callable[..., None]:
    def wait(pids: Iterable[int]) -> None:
        for pid in pids:
            until(lambda pid=pid: not alive(pid), 20)  # type: ignore[misc]

    return wait
