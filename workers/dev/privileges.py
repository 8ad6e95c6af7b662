"""PostgreSQL refuses to be root: two ways out that make no user and touch no parent directory."""

import ctypes
import os
import pwd
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from workers.dev.processes import LINUX, libc

CLONE_NEWUSER = 0x10000000
PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 8, 47, 2
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
CAPABILITY_VERSION_3 = 0x20080522


class NoWay(Exception):
    """PostgreSQL cannot run as root here (no user namespace, no way to become nobody): set DATABASE_URL."""


@dataclass(frozen=True)
class Way:
    """How the child gets rid of root, and whom its files then belong to (-1: leave them)."""

    enter: Callable[[], None]
    uid: int = -1
    gid: int = -1


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


# An ordinary user has nothing to give up.
UNCHANGED = Way(enter=lambda: None)


def namespace() -> Way:
    """A user namespace in which root is called nobody: the files stay root's, 0700 homes stay open to it."""
    nobody = pwd.getpwnam("nobody")

    def enter() -> None:
        _checked(libc.unshare(CLONE_NEWUSER))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{nobody.pw_uid} 0 1")
        Path("/proc/self/gid_map").write_text(f"{nobody.pw_gid} 0 1")

    return Way(enter, uid=0, gid=0)


def become_nobody() -> Way:
    """Where namespaces are refused (Docker's seccomp): nobody, who keeps root's eyes for closed parents."""
    nobody = pwd.getpwnam("nobody")

    def enter() -> None:
        kept = _permitted() & (1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH) if LINUX else 0
        if kept:
            _checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
        if kept:
            data = (_Data * 2)(_Data(kept, kept, kept))
            _checked(libc.capset(ctypes.byref(_Header(CAPABILITY_VERSION_3, 0)), data))
            for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
                if kept & 1 << capability:  # only an ambient capability survives the exec
                    _checked(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0))

    return Way(enter, nobody.pw_uid, nobody.pw_gid)


WAYS: tuple[Callable[[], Way], ...] = (namespace, become_nobody) if LINUX else (become_nobody,)


@cache
def way_for(program: Path, parent: Path) -> Way:
    """The first way in which `program` runs and reaches what lies in `parent`; raises NoWay."""
    if os.geteuid() != 0:
        return UNCHANGED
    for make in WAYS:
        try:
            way = make()
        except KeyError:  # no user nobody
            continue

        def trial(way: Way = way) -> None:
            way.enter()
            (parent / ".").stat()

        try:
            subprocess.run(
                [program, "--version"],
                capture_output=True,
                check=True,
                cwd="/",
                preexec_fn=trial,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return way
    raise NoWay(NoWay.__doc__)


def give(directory: Path, way: Way) -> None:
    """Hand over a directory of ours that another start, in another way, may have written."""
    if way.uid not in (-1, directory.stat().st_uid):
        for path in (directory, *directory.rglob("*")):
            os.chown(path, way.uid, way.gid, follow_symlinks=False)


def _permitted() -> int:
    data = (_Data * 2)()
    _checked(libc.capget(ctypes.byref(_Header(CAPABILITY_VERSION_3, 0)), data))
    return int(data[0].permitted)


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
