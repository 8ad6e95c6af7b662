"""Counts what this process asks of PostgreSQL and Redis: `with counted() as asked: ...`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from peewee import QueryEvent
from redis.connection import AbstractConnection, Connection

from db import postgres

# A test runs in one transaction, where that of the code under test is a savepoint. The first statement with a
# name on a connection prepares it, once.
_UNCOUNTED = ("SAVEPOINT", "RELEASE", "PREPARE")


@dataclass
class Asked:
    """The texts of the statements that were sent, and the commands of each round trip to Redis."""

    statements: list[str] = field(default_factory=list)
    trips: list[bytes] = field(default_factory=list)


@contextmanager
def counted() -> Iterator[Asked]:
    """Records the statements and the round trips of all threads of this process while the block runs."""
    asked = Asked()

    def hook(event: QueryEvent) -> None:
        # Where it is a transaction's first statement, BEGIN is sent with it.
        if not event.sql.removeprefix("BEGIN; ").startswith(_UNCOUNTED):
            asked.statements.append(event.sql)

    send = Connection.send_packed_command

    def record(connection: AbstractConnection, command: Any, check_health: bool = True) -> None:
        # The greeting of a new connection is not counted; most of it is sent without that check.
        text = b"".join([command] if isinstance(command, bytes) else command)
        if check_health and b"CLIENT" not in text:
            asked.trips.append(text)
        send(connection, command, check_health)

    postgres.database.query_hooks.append(hook)
    try:
        with patch.object(Connection, "send_packed_command", record):
            yield asked
    finally:
        postgres.database.query_hooks.remove(hook)
