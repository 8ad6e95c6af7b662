"""A second stack, behind PgBouncer where it is installed, for flows that neither stop its stores nor kill its processes."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.conftest import Stack
from tests.makers import DisposablePostgres
from workers.dev.servers import Postgres, Server, Valkey, free_port

PAGE = Path(__file__).parents[3] / "docs/operations/going-to-production.md"

# How many sessions of PostgreSQL it opens.
SESSIONS = 12

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class PgBouncer(Server):
    """PgBouncer as Debian has it: it takes no `options`, and few sessions serve many clients."""

    name = "pgbouncer"
    stop_signal = signal.SIGINT
    _url = Postgres._url

    def __init__(self, directory: Path, postgres: Postgres) -> None:
        super().__init__(directory, free_port(), postgres.password)
        self._behind = postgres

    def _prepare(self) -> list[str | Path]:
        assert PGBOUNCER, "CI installs pgbouncer"
        self.directory.mkdir(exist_ok=True)
        config = self.directory / "pgbouncer.ini"
        config.write_text(self._configuration())
        # It refuses to be root.
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        return [PGBOUNCER, *user, config]

    def _configuration(self) -> str:
        """The one of the documents, with this machine's addresses, any password, and few sessions."""
        [content] = re.findall(r"```ini\n(.*?)```", PAGE.read_text(), re.DOTALL)
        behind = f"host=127.0.0.1 port={self._behind.port} user=paywright password={self.password}"
        for old, new in (
            ("host=.* port=.*", behind),
            ("listen_port = .*", f"listen_port = {self.port}\nunix_socket_dir ="),
            ("auth_type = .*\nauth_file = .*", "auth_type = any"),
            ("default_pool_size = .*", f"default_pool_size = {SESSIONS}"),
        ):
            content, replaced = re.subn(old, new, content)
            assert replaced == 1, old
        return content

    def ready(self) -> bool:
        return b"process up" in self.log.read_bytes()


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("pooled")
    postgres = DisposablePostgres(directory / "postgres", free_port(), "test")
    valkey = Valkey(directory / "valkey", free_port(), "test")
    postgres.start()
    valkey.start()
    bouncer = PgBouncer(directory / "pgbouncer", postgres) if PGBOUNCER or os.environ.get("CI") else None
    # No test waits for the end of an idle connection as long as it takes by default.
    settings = {"GUNICORN_CMD_ARGS": "--keep-alive 5"}
    stack = Stack(directory, postgres, valkey, database_url=bouncer.url if bouncer else None, **settings)
    try:
        if bouncer:
            bouncer.start()
        stack.start()
        yield stack
    finally:
        stack.stop()
        if bouncer:
            bouncer.stop()
        valkey.stop()
        postgres.stop()
