"""The peer: our small Express application with the same hot paths, where node is installed."""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import psycopg2

from tests.bench.stack import Stores, launched
from workers.dev.servers import HOST, free_port

SOURCE = Path(__file__).with_name("peer")
# Outside the repository, so that node_modules never lands in it; kept from run to run.
BUILDS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paywright-bench"
# `prisma generate` wants the schema engine, a download, and never runs it.
ENVIRONMENT = {"PRISMA_SCHEMA_ENGINE_BINARY": "/bin/true", "DATABASE_URL": "postgresql://unused"}


@dataclass(frozen=True)
class Peer:
    """The running peer."""

    url: str
    pid: int


def start(running: ExitStack, stores: Stores, directory: Path) -> Peer | None:
    """Builds and starts the peer until `running` closes; None where node is not installed."""
    if not (shutil.which("node") and shutil.which("npm")):
        sys.stderr.write("node is not installed: there is no peer to compare with\n")
        return None
    built, url, port = build(), stores.database("peer"), free_port()
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute((SOURCE / "sql/schema.sql").read_text())
    connection.close()
    program = running.enter_context(
        launched(
            ["node", str(built / "dist/cluster.js")],
            directory / "peer.log",
            f"http://{HOST}:{port}/health",
            NODE_ENV="production",
            PORT=str(port),
            WORKERS="2",
            DATABASE_URL=url,
            REDIS_URL=stores.redis(1),
            LOG_DIR=str(directory),
            JWT_SECRET="bench-secret-0123456789abcdef0123456789abcdef",
        )
    )
    return Peer(f"http://{HOST}:{port}", program.pid)


def build() -> Path:
    """Installs the locked packages and compiles the peer, once for each state of its source."""
    files = sorted(path for path in SOURCE.rglob("*") if path.is_file())
    state = sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    built = BUILDS / f"peer-{state}"
    if not (built / "dist/cluster.js").exists():
        shutil.copytree(SOURCE, built, dirs_exist_ok=True)
        for command in ("npm ci --no-audit --no-fund", "npx prisma generate", "npx tsc -p ."):
            done = subprocess.run(
                command.split(),
                cwd=built,
                env={**os.environ, **ENVIRONMENT},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"the peer: {command}: {(done.stdout + done.stderr)[-1000:]}")
    return built
