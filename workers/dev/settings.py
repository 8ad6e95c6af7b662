"""What the developer chose: the environment, then .env, then what suits a laptop."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values, parser

from workers.dev import procfile, servers


class Wrong(Exception):
    """A setting nobody can start with; the message is one line that names it."""


@dataclass(frozen=True)
class Settings:
    root: Path
    environ: Mapping[str, str]
    data: Path
    host: str
    port: int | None
    processes: Mapping[str, str]

    def get(self, name: str) -> str | None:
        """For what the launcher itself reads an empty value is no value, as in .env.example."""
        return self.environ.get(name) or None

    @property
    def database_url(self) -> str | None:
        return self.get("DATABASE_URL")

    @property
    def redis_url(self) -> str | None:
        return self.get("REDIS_URL")

    @property
    def production(self) -> bool:
        return self.get("APP_ENV") == "production"

    @property
    def reachable(self) -> str:
        """The host as a client on this machine writes it into a URL."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"[{host}]" if ":" in host else host


def read(root: Path, environ: Mapping[str, str]) -> Settings:
    """Raises Wrong."""
    chosen = {**_dotenv(root / ".env"), **environ}
    try:
        kinds = procfile.parse((root / "Procfile").read_text())
        wanted = procfile.scaled(kinds, chosen.get("PROCESSES", ""))
    except OSError as error:
        raise Wrong(f"Procfile: {error.strerror}") from None
    except ValueError as error:
        raise Wrong(str(error)) from None
    return Settings(
        root=root,
        environ=chosen,
        data=(root / (chosen.get("DATA_DIR") or ".data")).resolve(),
        host=chosen.get("HOST") or servers.HOST,
        port=_port(chosen.get("PORT") or None),
        processes=wanted,
    )


def web_port(settings: Settings, before: int | None) -> int:
    """The chosen port or none; not chosen: 3000, the one of the last start, a free one. Raises Wrong."""
    try:
        socket.getaddrinfo(settings.host, None)
    except (OSError, UnicodeError):
        raise Wrong(f"HOST: {settings.host} is no address of this machine") from None
    if settings.port is None:
        return servers.free_port(3000, before, host=settings.host)
    try:
        servers.listen(settings.port, settings.host)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Wrong(f"PORT: cannot listen on {settings.host}:{settings.port}: {reason}") from None
    return settings.port


def _port(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
        raise Wrong(f"PORT: {value!r} is no port number")
    return int(value)


def _dotenv(path: Path) -> dict[str, str]:
    try:
        with path.open() as stream:
            for binding in parser.parse_stream(stream):
                if binding.error or (binding.key and binding.value is None):
                    raise Wrong(f".env: line {binding.original.line} is not NAME=value")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        raise Wrong(f".env: {error}") from None
    return {name: value or "" for name, value in dotenv_values(path, interpolate=False).items()}
