"""Projects of node in tests: installed from their lock file into the user's cache folder.

A compiler or linter that has succeeded on the same files is not run again: its result is in that folder, too.
Where there is no npm, an old node or no network, their tests are skipped, except in CI.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pytest

INSTALL_S, RUN_S = 600, 600
# Outside the repository: a second checkout has the same packages.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paywright-tests"
# How long the result of a tool is kept: each content of its files has one of its own.
KEEP_S = 30 * 24 * 3600
# What the packages need.
OLDEST_NODE = (20, 19)

# Without telemetry, and without a look for newer versions.
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "NO_UPDATE_NOTIFIER": "1"}


def unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def run(
    command: Sequence[str | Path], cwd: Path, seconds: float = RUN_S, *, env: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **QUIET, **env}
    return subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=seconds, check=False
    )


def once(
    command: Sequence[str],
    folder: Path,
    *,
    reads: Sequence[str],
    makes: str | None = None,
    env: Mapping[str, str] = {},
) -> subprocess.CompletedProcess[str]:
    """Runs a tool in a project; not again where it has succeeded on files of the same content.

    `reads` names all that it reads beside the installed packages; what `env` leads to must be among it. `makes`
    is what it writes, kept with the result.
    """
    content = sha256(repr((command, makes, (folder / "node_modules").resolve().name)).encode())
    for name in reads:
        found = folder / name
        for path in sorted(found.rglob("*.*")) if found.is_dir() else [found]:
            content.update(repr((path.relative_to(folder).as_posix(), path.read_bytes())).encode())
    tool = Path(command[0]).stem
    kept = CACHE / f"{tool}-{content.hexdigest()[:32]}"
    if kept.exists():
        if makes:
            _copy(kept / makes, folder / makes)
        return subprocess.CompletedProcess(command, 0, (kept / "stdout").read_text(), "")
    done = run(command, folder, env=env)
    if done.returncode == 0:
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as fresh:
            (Path(fresh) / "stdout").write_text(done.stdout)
            if makes:
                _copy(folder / makes, Path(fresh) / makes)
            # Complete or not at all; another process may have been first.
            with suppress(OSError):
                Path(fresh).rename(kept)
                Path(fresh).mkdir()
        for old in CACHE.glob(f"{tool}-*"):
            # Another process may have removed it.
            with suppress(OSError):
                if time.time() - old.stat().st_mtime > KEEP_S:
                    shutil.rmtree(old, ignore_errors=True)
    return done


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def cached(name: str, wanted: str, install: Sequence[Sequence[str | Path]]) -> Path:
    """A folder into which these commands installed what is wanted, once for all checkouts of this user."""
    folder = CACHE / f"{name}-{sha256(wanted.encode()).hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        # Of the processes that run the tests, one installs.
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "installed"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for command in install:
                _install(command, folder)
            done.touch()
    return folder


def project(root: Path, path: str, directory: Path) -> Path:
    """Makes this directory a project with the package.json of a folder of ours, and what its lock file names."""
    npm = shutil.which("npm")
    if npm is None:
        unavailable("there is no npm")
    version = run(["node", "--version"], root).stdout.strip()
    if tuple(map(int, version.removeprefix("v").split(".")[:2])) < OLDEST_NODE:
        unavailable(f"node {version} is too old")
    files = [root / path / name for name in ("package.json", "package-lock.json")]
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", "--prefer-offline"]
    install: list[list[str | Path]] = [["cp", *files, "."], [npm, "ci", *options]]
    installed = cached(path.replace("/", "-"), "".join(file.read_text() for file in files), install)
    shutil.copy(files[0], directory)
    (directory / "node_modules").symlink_to(installed / "node_modules")
    return directory


def _install(command: Sequence[str | Path], folder: Path) -> None:
    try:
        installed = run(command, folder, INSTALL_S)
    except subprocess.TimeoutExpired:
        unavailable(f"not installed in {INSTALL_S} s")
    if installed.returncode:
        unavailable(f"cannot be installed: {installed.stderr[-500:]}")
