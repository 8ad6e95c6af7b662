"""The parts of the stack, derived from the settings: commands, ports, secrets, embedded servers."""

import contextlib
import fcntl
import io
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from dotenv import dotenv_values, parser, set_key

from db.core import procfile
from db.core.settings import InvalidSetting
from workers.dev import Failure, processes, servers

DEFAULT_WEB_PORT = 3000
SECRETS = ("JWT_SECRET", "PASSWORD_PEPPER", "POSTGRES_PASSWORD", "VALKEY_PASSWORD")
MARK = "PAYWRIGHT_STACK"  # names the launcher's DATA_DIR to every process that it starts


def settings(file: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment, and what only the file .env sets, unexpanded. Raises InvalidSetting."""
    text = io.StringIO(file.read_text() if file.exists() else "")
    for binding in (bindings := list(parser.parse_stream(text))):
        if binding.error or (binding.key and binding.value is None):
            raise InvalidSetting(f".env: line {binding.original.line} is not NAME=value")
    return {binding.key: binding.value or "" for binding in bindings if binding.key} | dict(environ)


@contextlib.contextmanager
def locked(data: Path) -> Iterator[None]:
    """Creates and locks DATA_DIR, and kills processes that a killed launcher left. Raises Failure."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting(f"DATA_DIR: {data}: {error.strerror}") from None
    with (data / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"Paywright is already running in {data}") from None
        # Children that are still ending, and grandchildren, which get no signal from the kernel.
        processes.kill(lambda process: process.environ().get(MARK) == str(data))
        yield


class Stack:
    """Everything to start: commands, embedded servers, environment. Nothing runs yet."""

    def __init__(self, data: Path, settings: dict[str, str], *, console: bool) -> None:
        """Chooses ports and passwords; `console` if a person reads the logs. Raises InvalidSetting."""
        self.data, self.production = data, settings.get("APP_ENV") == "production"
        self.commands = _commands(settings.get("PROCESSES", ""))
        host = settings.get("HOST") or servers.HOST
        port = _web_port(settings.get("PORT"), host, data)
        reachable = {"0.0.0.0": servers.HOST, "::": "::1"}.get(host, host)
        base_url = f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"
        self.environ = {
            **settings,
            "BASE_URL": base_url,
            "HOST": host,
            "PORT": str(port),
            "DATA_DIR": str(data),
            MARK: str(data),
            "PUBLIC_URL": settings.get("PUBLIC_URL") or ("" if self.production else base_url),
            "APP_ENV": settings.get("APP_ENV") or "development",
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{Path(sys.executable).parent}:{settings.get('PATH') or '/usr/bin:/bin'}",
        }
        if console:
            self.environ["LOG_FORMAT"] = settings.get("LOG_FORMAT") or "console"
        self.servers: list[servers.Server] = []
        for name, kind in (("REDIS_URL", servers.Valkey), ("DATABASE_URL", servers.Postgres)):
            if not settings.get(name):
                directory, password = data / kind.name, secret_values(data)[f"{kind.name.upper()}_PASSWORD"]
                self.servers.append(kind(directory, servers.free_port(seed=directory), password))
                self.environ[name] = self.servers[-1].url

    def spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """Starts a process with the current secrets, which can be rotated; without them in production."""
        generated = {} if self.production else secret_values(self.data)
        missing = {name: value for name, value in generated.items() if not self.environ.get(name)}
        return processes.launch(command, env=self.environ | missing | {"PROCESS_NAME": name})


def write(path: Path, text: str) -> None:
    """Replaces a file atomically; only its owner may read it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)


def secret_values(data: Path) -> dict[str, str]:
    """Returns the secrets of this checkout; generates those that are missing."""
    path = data / "secrets.env"
    known = {name: value for name, value in dotenv_values(path, interpolate=False).items() if value}
    for name in SECRETS:
        if name not in known:
            known[name] = secrets.token_urlsafe(48)
            set_key(path, name, known[name])
    return known


def _web_port(chosen: str | None, host: str, data: Path) -> int:
    """Returns the chosen port; without one, 3000 or a free one. Raises InvalidSetting."""
    try:
        servers.listen(int(chosen or 0), host)
    except (OSError, ValueError, OverflowError) as error:
        raise InvalidSetting(f"HOST, PORT: cannot listen on {host}:{chosen or 0}: {error}") from None
    return int(chosen) if chosen else servers.free_port(DEFAULT_WEB_PORT, host=host, seed=data)


def _commands(processes: str) -> dict[str, str]:
    """Returns the Procfile's commands by `web.1`, `web.2`, …; `processes` is as `web=2,psp=0`."""
    commands = procfile.commands()
    numbers = dict.fromkeys(commands, "1")
    for part in filter(None, map(str.strip, processes.split(","))):
        name, _, number = part.partition("=")
        if name not in commands or not number.isdecimal():
            raise InvalidSetting(f"PROCESSES: {part!r} is not name=number with a name of the Procfile")
        numbers[name] = number
    return {f"{name}.{n}": commands[name] for name in commands for n in range(1, int(numbers[name]) + 1)}
