"""A connection to the database is for who asks it something: who waits for something else gives it back."""

from collections.abc import Iterator
from contextlib import contextmanager

from falcon import Request

from db import postgres


@contextmanager
def released(req: Request) -> Iterator[None]:
    """Gives the connection back that the gate took for this request, as long as the block runs."""
    if not getattr(req.context, "opened", False):
        yield
        return
    postgres.database.close()
    req.context.opened = False
    try:
        yield
    finally:
        req.context.opened = postgres.database.connect(reuse_if_open=True)
