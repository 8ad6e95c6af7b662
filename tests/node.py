"""Projects of node in tests: installed from their lock file into the user's cache folder.

Where there is no npm, an old node or no network, their tests are skipped, except in CI.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pytest

INSTALL_S, RUN_S = 300, 180
# Outside the repository: a second checkout has the same packages.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paywright-tests"
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
