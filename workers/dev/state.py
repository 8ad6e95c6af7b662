"""What a start leaves for the next one: the lock, the ports, the secrets, the pids."""

import contextlib
import fcntl
import json
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from dotenv import dotenv_values

from workers.dev import processes

SECRETS = ("JWT_SECRET", "PASSWORD_PEPPER", "POSTGRES_PASSWORD", "VALKEY_PASSWORD")


class Running(Exception):
    """Another launcher works in this directory."""


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """The directory, made if need be, and ours until the end; raises OSError, Running."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Running(f"Paywright is already running in {directory}") from None
        yield


def write(path: Path, text: str) -> None:
    """All of it or none, and for our eyes only."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)


def remembered(path: Path) -> dict[str, int]:
    """A JSON file of numbers by name; what cannot be read counts as forgotten."""
    try:
        found = json.loads(path.read_text())
        return {name: int(number) for name, number in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_numbers(path: Path, numbers: Mapping[str, int]) -> None:
    write(path, json.dumps(numbers, indent=1) + "\n")


def secret_values(directory: Path) -> dict[str, str]:
    """The secrets of this checkout, made where they are missing. Read at each call: they may be rotated."""
    path = directory / "secrets.env"
    known = {name: value for name, value in dotenv_values(path, interpolate=False).items() if value}
    if made := {name: secrets.token_urlsafe(48) for name in SECRETS if name not in known}:
        # The lines that are there stay as they are: a value may need its quotes.
        kept = path.read_text().rstrip("\n").splitlines() if path.exists() else []
        write(path, "\n".join([*kept, *(f"{name}={value}" for name, value in made.items()), ""]))
    return known | made


def record(directory: Path, pids: Mapping[str, int]) -> None:
    """Who runs, for `evict`; a pid alone may be another's by then, so its time of birth is kept as well."""
    births = {name: processes.born(pid) for name, pid in pids.items()}
    write(directory / "births.json", json.dumps(births))
    write_numbers(directory / "pids.json", pids)


def evict(directory: Path, root: Path, seconds: float = 5) -> None:
    """End what a killed launcher left running, and what a killed process left in its group."""
    try:
        births = dict(json.loads((directory / "births.json").read_text()))
    except (OSError, ValueError, TypeError):
        births = {}
    left: dict[int, signal.Signals] = {}
    for name, pid in remembered(directory / "pids.json").items():
        same = births.get(name) and births[name] == processes.born(pid)
        if same or processes.members(pid, root):
            # To PostgreSQL SIGTERM means: wait for all clients.
            left[pid] = signal.SIGINT if name == "postgres" else signal.SIGTERM
    for last_resort in (None, signal.SIGKILL) if left else ():
        for pid, signum in left.items():
            processes.send(pid, last_resort or signum, group=True)
        deadline = time.monotonic() + seconds
        while any(map(processes.group_lives, left)) and time.monotonic() < deadline:
            time.sleep(0.02)
