"""What the figures were measured on: the machine, its load, the versions, the commit."""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from db.core import VERSION
from tests.bench.load import WRK
from workers.dev import servers

PACKAGES = (
    "falcon",
    "gunicorn",
    "gevent",
    "dramatiq",
    "peewee",
    "psycopg2-binary",
    "redis",
    "pydantic",
    "bcrypt",
)


def describe() -> dict[str, Any]:
    """Returns everything about this machine that a reader of the figures asks."""
    processor = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", processor.read_text()) if processor.exists() else None
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z",
        "commit": _output("git", "describe", "--always", "--dirty", "--abbrev=10"),
        "version": VERSION,
        "machine": f"{psutil.cpu_count()} cores ({model[1] if model else platform.processor()}), {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        # Of the last minute, before anything was started: beside others the figures are too low.
        "load before": round(os.getloadavg()[0], 2),
        "versions": {
            "Python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
            "PostgreSQL": _output(str(servers.postgres_bin() / "postgres"), "--version").split()[-1],
            "Valkey": _version(_output(str(servers.valkey_server()), "--version")),
            "Node": _output("node", "--version").lstrip("v") if shutil.which("node") else "none",
            "load generator": "wrk " + _version(_output("wrk", "--version"))
            if WRK
            else "tests/bench/python_load.py",
        },
    }


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def _version(text: str) -> str:
    found = re.search(r"\d+\.\d+[\w.]*", text)
    return found[0] if found else text
