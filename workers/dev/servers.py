"""The embedded PostgreSQL and Valkey: a directory, a port and a password make a server."""

import contextlib
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

from workers.dev import binaries, cluster, privileges, processes

HOST = "127.0.0.1"
# Below the range from which the kernel takes the ports of outgoing connections, Linux and macOS alike.
PORTS = range(20000, 32000)


def listen(port: int, host: str = HOST) -> None:
    """Try to listen there, for a moment; raises OSError."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    socket.create_server((host, port), family=family).close()


def free_port(*wanted: int | None, host: str = HOST) -> int:
    """The first wanted one on which nobody listens, else one of our own choice; until this process ends,
    nobody else chooses it."""
    for port in [*filter(None, wanted), *random.sample(PORTS, 500)]:
        with contextlib.suppress(OSError):
            listen(port, host)
            _claims.append(_claim(port, host))
            return port
    raise binaries.Broken("there is no free port")


_claims: list[socket.socket] = []


def _claim(port: int, host: str) -> socket.socket:
    """Holds the port of this number for UDP, which nobody here uses; raises OSError when another does.

    A server listens on its port only seconds after it was chosen: two launchers that start together would
    choose the same. No file is left behind, whatever ends this process.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][0]
    held = socket.socket(family, socket.SOCK_DGRAM)
    try:
        held.bind((host, port))
    except BaseException:
        held.close()
        raise
    return held


class Server(ABC):
    """What both have in common. `start` and `stop` wait; `spawn` and `ready` are for who must not."""

    name: str
    # The polite stop, the hasty one.
    stops: tuple[signal.Signals, signal.Signals]
    # What it says at every start and nobody here can change.
    noise = b""

    def __init__(self, directory: Path, port: int, password: str) -> None:
        self.directory, self.port, self.password = directory.resolve(), port, password
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.poll() is None else None

    @property
    def log(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}.log")

    def start(self, seconds: float = 60) -> None:
        """Spawn and wait for the first answer; what the server writes goes to `log`; raises Broken."""
        deadline = time.monotonic() + seconds
        self._spawn_logged()
        while not self.ready():
            if self.pid is None:
                said = self.log.read_bytes()
                # The children of a killed postmaster need a moment to notice.
                if b"still in use" not in said or time.monotonic() > deadline:
                    raise binaries.Broken(f"{self.name} does not start: {binaries.reason(said)}")
                time.sleep(0.2)
                self._spawn_logged()
            if time.monotonic() > deadline:
                self.stop()
                raise binaries.Broken(f"{self.name} does not answer within {seconds:.0f} s")
            time.sleep(0.01)

    def stop(self, seconds: float = 10) -> None:
        if self.process is None:
            return
        for signum in (*self.stops, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(signum)
            try:
                self.process.wait(seconds)
                return
            except subprocess.TimeoutExpired:
                continue

    @property
    @abstractmethod
    def url(self) -> str:
        """As DATABASE_URL or REDIS_URL has it."""

    @abstractmethod
    def spawn(self, output: int) -> subprocess.Popen[bytes]:
        """Start the process and do not wait for it; `output` as in Popen; raises Broken."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers."""

    def _spawn_logged(self) -> None:
        self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.spawn(log.fileno())

    def _launch(
        self, argv: list[str | Path], output: int, way: privileges.Way = privileges.UNCHANGED
    ) -> subprocess.Popen[bytes]:
        self.process = processes.launch(
            argv,
            output=output,
            environ=cluster.plain_environment(),
            directory=Path("/"),
            last_wish=self.stops[0],
            enter=way.enter,
        )
        return self.process


class Postgres(Server):
    """User and database are both `paywright`, over TCP on this machine only."""

    name = "postgres"
    stops = (signal.SIGINT, signal.SIGQUIT)
    settings = {
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "max_connections": "200",
        "log_min_messages": "log",
        "log_checkpoints": "off",
        "log_line_prefix": "",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }

    @property
    def url(self) -> str:
        return f"postgresql://paywright:{self.password}@{HOST}:{self.port}/paywright"

    def spawn(self, output: int) -> subprocess.Popen[bytes]:
        program = binaries.postgres_bin() / "postgres"
        way = privileges.way_for(program, self.directory.parent)
        if not (self.directory / "PG_VERSION").exists():
            cluster.create(self.directory, self.password, way)
        privileges.give(self.directory, way)
        self._evict()
        argv: list[str | Path] = [program, "-D", self.directory, "-p", str(self.port)]
        argv += [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        return self._launch(argv, output, way)

    def ready(self) -> bool:
        # As pg_ctl does: a connection refused while it recovers would be a line in its log.
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
            return int(lines[0]) == self.pid and lines[7].strip() == "ready"
        except (OSError, ValueError, IndexError):
            return False

    def _evict(self) -> None:
        """Whoever calls us owns the directory, so a server still in it is the rest of a killed launcher."""
        file = self.directory / "postmaster.pid"
        try:
            pid = int(file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            pid = 0
        if processes.born(pid) and f"-D {self.directory} " in processes.command(pid):
            for signum in (*self.stops, signal.SIGKILL):
                processes.send(pid, signum)
                if processes.gone([pid], 5):
                    break
        # PostgreSQL believes any living pid in that file, a zombie's or a stranger's too. It stays safe
        # without the file: the shared memory it looks for is named after the directory.
        file.unlink(missing_ok=True)
        # A backend in a long computation outlives its killed postmaster and keeps that memory.
        orphans = processes.standing_in(self.directory, "postgres")
        for pid in orphans:
            processes.send(pid, signal.SIGKILL)
        processes.gone(orphans, 5)


class Valkey(Server):
    """A Redis-compatible server that keeps what it was told (append-only file, one second at risk)."""

    name = "valkey"
    stops = (signal.SIGTERM, signal.SIGTERM)
    noise = b"Memory overcommit must be enabled"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def spawn(self, output: int) -> subprocess.Popen[bytes]:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = self.directory / "valkey.conf"
        config.touch(mode=0o600)
        quoted = str(self.directory).replace("\\", "\\\\").replace('"', '\\"')
        config.write_text(
            f'bind {HOST}\nport {self.port}\nrequirepass {self.password}\ndir "{quoted}"\n'
            'appendonly yes\nappendfsync everysec\nsave ""\nmaxmemory-policy noeviction\nloglevel warning\n'
        )
        return self._launch([binaries.valkey_server(), config], output)

    def ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\nQUIT\r\n".encode())
                return b"+PONG" in b"".join(iter(lambda: connection.recv(1024), b""))
        except OSError:
            return False
