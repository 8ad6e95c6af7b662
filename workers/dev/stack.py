"""The parts of the stack and the order in which they start."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

from workers.dev import processes, procfile, state
from workers.dev.servers import Postgres, Server, Valkey, free_port
from workers.dev.settings import Settings, Wrong, web_port
from workers.dev.supervisor import Child, Stop, Supervisor

DEMO_USERS = ("admin@example.com", "vendor@example.com", "customer@example.com")
SECRETS = ("JWT_SECRET", "JWT_SECRET_OTHER", "PASSWORD_PEPPER")
DEFAULT_PORT = {"postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379}


@dataclass(frozen=True)
class Plan:
    settings: Settings
    servers: list[Server]
    environ: Mapping[str, str]

    @property
    def base_url(self) -> str:
        return f"http://{self.settings.reachable}:{self.environ['PORT']}"

    def environ_now(self) -> dict[str, str]:
        """The environment of a process that starts now: a rotated secret reaches whatever is restarted."""
        return {**self.environ, **_secrets(self.settings, state.secret_values(self.settings.data))}


def plan(chosen: Settings) -> Plan:
    """Ports, passwords and environment; nothing runs yet."""
    data = chosen.data
    ports, secrets = state.remembered(data / "ports.json"), state.secret_values(data)
    ports["web"] = web_port(chosen, ports.get("web"))
    embedded: list[Server] = []
    urls = {"DATABASE_URL": chosen.database_url, "REDIS_URL": chosen.redis_url}
    kinds: list[tuple[str, type[Server]]] = [("REDIS_URL", Valkey), ("DATABASE_URL", Postgres)]
    for setting, kind in kinds:
        if urls[setting] is None:
            ports[kind.name] = free_port(ports.get(kind.name))
            password = secrets[f"{kind.name.upper()}_PASSWORD"]
            server = kind(data / kind.name, ports[kind.name], password)
            embedded.append(server)
            urls[setting] = server.url
    state.write_numbers(data / "ports.json", ports)
    base_url = f"http://{chosen.reachable}:{ports['web']}"
    ours = {
        **urls,
        "HOST": chosen.host,
        "PORT": str(ports["web"]),
        "DATA_DIR": str(data),
        "PUBLIC_URL": chosen.get("PUBLIC_URL") or ("" if chosen.production else base_url),
        "APP_ENV": chosen.get("APP_ENV") or "development",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}:{chosen.get('PATH') or '/usr/bin:/bin'}",
    }
    ours |= _secrets(chosen, secrets)
    return Plan(chosen, embedded, {**chosen.environ, **{k: v for k, v in ours.items() if v is not None}})


def _secrets(chosen: Settings, made: Mapping[str, str]) -> dict[str, str]:
    """The secrets that the operator chose, or those that were made here. In production none is made."""
    found = {name: chosen.get(name) or (None if chosen.production else made.get(name)) for name in SECRETS}
    return {name: value for name, value in found.items() if value is not None}


def start_stores(supervisor: Supervisor, planned: Plan) -> None:
    """Starts ours and waits for all; raises Stop, Wrong, Broken."""
    children: dict[Server, Child] = {}
    for server in planned.servers:
        child = Child(server.name, server.spawn, server.stops, server=True, noise=server.noise, patience=5)
        children[server] = supervisor.start(child)
    with contextlib.suppress(Exception):  # it takes a while to load, and says what is wrong when it is used
        import_module("db.migrate")
    for server, child in children.items():
        supervisor.until(server.ready)
        child.patience = None
    for setting, url in (
        ("DATABASE_URL", planned.settings.database_url),
        ("REDIS_URL", planned.settings.redis_url),
    ):
        if url:
            _reach(supervisor, setting, url)


def migrate(planned: Plan) -> None:
    url = planned.environ["DATABASE_URL"]
    try:
        import_module("db.migrate").up(url)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        if planned.settings.database_url and type(error).__name__ == "OperationalError":
            raise Wrong(f"DATABASE_URL: {reason}") from None
        raise Stop(1, f"db.migrate: {type(error).__name__}: {reason}") from None


def start_seed(supervisor: Supervisor, planned: Plan) -> Child | None:
    """The demo users; never in production."""
    ours = planned.settings.database_url is None
    if planned.settings.production or (ours and _seeded(planned.environ["DATABASE_URL"])):
        return None
    return supervisor.start(_child("seed", [sys.executable, "-m", "api.people", "demo"], planned, once=True))


def _seeded(url: str) -> bool:
    """Whether they are all there: looking is faster than making them again."""
    users, postgres = import_module("db.users"), import_module("db.postgres")
    postgres.open(url, connections=1)
    with postgres.connection():
        return all(users.by_email(email) for email in DEMO_USERS)


def start_processes(supervisor: Supervisor, planned: Plan) -> None:
    for name, command in planned.settings.processes.items():
        supervisor.start(_child(name, procfile.argv(command), planned))


def _child(name: str, argv: list[str], planned: Plan, *, once: bool = False) -> Child:
    def spawn(output: int) -> subprocess.Popen[bytes]:
        environ = planned.environ_now()
        return processes.launch(argv, output=output, environ=environ, directory=planned.settings.root)

    return Child(name, spawn, once=once)


def _reach(supervisor: Supervisor, setting: str, url: str, seconds: float = 10) -> None:
    """Someone listens there; who it is, the first who speaks to it finds out."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_PORT.get(parts.scheme, 0)
    except ValueError as error:
        raise Wrong(f"{setting}: {error}") from None
    if parts.scheme not in DEFAULT_PORT and parts.scheme != "unix":
        raise Wrong(f"{setting}: {parts.scheme or 'it'} is no scheme we know")
    if not host:  # a unix socket
        return
    deadline = time.monotonic() + seconds

    def listens() -> bool:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise Wrong(f"{setting}: {host}:{port} does not answer: {error}") from None
            return False
        return True

    supervisor.until(listens)
