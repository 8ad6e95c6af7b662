"""A new PostgreSQL data directory: whole, or not there."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from workers.dev import binaries, privileges, processes


def create(directory: Path, password: str, way: privileges.Way) -> None:
    """Made beside its place and renamed at the end; raises Broken."""
    for abandoned in directory.parent.glob(f"{directory.name}.new.*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    workshop = Path(tempfile.mkdtemp(prefix=f"{directory.name}.new.", dir=directory.parent))
    data, secret = workshop / "data", workshop / "password"
    try:
        data.mkdir(mode=0o700)
        secret.touch(mode=0o600)
        secret.write_text(password)
        privileges.give(workshop, way)
        options = ["-U", "paywright", f"--pwfile={secret}", "--auth=scram-sha-256"]
        options += ["--locale=C.UTF-8", "--encoding=UTF8"]
        _run([binaries.postgres_bin() / "initdb", "-D", data, *options], way)
        single = ["--single", "-D", str(data), "postgres"]
        _run([binaries.postgres_bin() / "postgres", *single], way, b"CREATE DATABASE paywright\n")
        try:
            data.rename(directory)
        except OSError as error:
            raise binaries.Broken(f"{directory} is no PostgreSQL data: {error.strerror}") from None
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def plain_environment() -> dict[str, str]:
    """Ours without libpq's variables, which the server's own programs would obey."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _run(argv: Sequence[str | Path], way: privileges.Way, given: bytes = b"") -> None:
    child = processes.launch(
        argv,
        output=subprocess.PIPE,
        environ=plain_environment(),
        directory=Path("/"),
        given=subprocess.PIPE,
        enter=way.enter,
    )
    said, _ = child.communicate(given)
    if child.returncode or b"ERROR:" in said:  # a single-user server ends with 0 all the same
        raise binaries.Broken(f"{Path(argv[0]).name} failed: {binaries.reason(said)}")
