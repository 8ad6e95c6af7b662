"""Runs PostgreSQL, which refuses to be root, for root; creates no user and opens no parent directory."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from db.core.settings import InvalidSetting

# The id of `nobody` on Linux.
NOBODY = 65534


class Way(NamedTuple):
    """How to run a command without root's identity, by programs of util-linux."""

    # What stands in front of the command.
    prefix: str = ""
    # The owner that the command's files need; None leaves them as they are.
    owner: int | None = None


# The death signal is set last: a change of credentials clears it. See `processes.launch`.
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


def way_for(program: Path, parent: Path) -> Way:
    """The first way in which `program` runs and enters `parent`. Raises InvalidSetting."""
    trial = ["/bin/sh", "-c", 'cd "$0" && exec "$1" --version', str(parent), str(program)]
    for way in WAYS if os.geteuid() == 0 else (Way(),):
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run([*way.prefix.split(), *trial], capture_output=True, check=True, cwd="/")
            return way
    raise InvalidSetting(
        "DATABASE_URL: is not set, and PostgreSQL cannot run here without unshare and setpriv"
    )


def give(directory: Path, way: Way) -> None:
    """Change the owner of a directory that another start may have written in another way."""
    if way.owner is not None and way.owner != directory.stat().st_uid:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, way.owner, way.owner, follow_symlinks=False)
