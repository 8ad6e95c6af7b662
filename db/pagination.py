"""Keyset pages, newest first: a page costs the same at depth 1 and 100,000, and new rows shift nothing."""

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import peewee

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Row(Protocol):
    """What can be paged: it has a moment of creation, and an id that breaks ties."""

    @property
    def id(self) -> UUID: ...

    @property
    def created_at(self) -> datetime: ...


T = TypeVar("T")
R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Cursor:
    """Where a page ended: the last row's moment (to the microsecond, as the database has it) and id."""

    created_at: datetime
    id: UUID

    def cursor(self) -> str:
        """The place as an opaque, URL-safe token."""
        microseconds = (self.created_at - _EPOCH) // timedelta(microseconds=1)
        return base64.urlsafe_b64encode(struct.pack(">q16s", microseconds, self.id.bytes)).decode()

    @classmethod
    def parse(cls, cursor: str) -> "Cursor":
        """The place behind a token. Raises ValueError for anything that `cursor` did not make."""
        try:
            raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
            microseconds, id = struct.unpack(">q16s", raw)
            place = cls(_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=id))
        except (struct.error, binascii.Error, UnicodeEncodeError, OverflowError) as error:
            raise ValueError("not a cursor") from error
        return place


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some rows, and the cursor of the next ones (None at the end)."""

    items: Sequence[T]
    limit: int
    next_cursor: str | None


def _cut(rows: Sequence[R], limit: int) -> Page[R]:
    """Makes a page of `limit` rows from a query for `limit + 1`: the extra one says that there is more."""
    more = len(rows) > limit
    items = rows[:limit]
    return Page(items, limit, Cursor(items[-1].created_at, items[-1].id).cursor() if more else None)


def conditions(*pairs: tuple[Any, Any]) -> list[Any]:
    """The conditions of those values that were asked for; always one at least, as WHERE wants it."""
    return [peewee.SQL("true"), *(condition for value, condition in pairs if value is not None)]


def newest_page(model: Any, queries: Sequence[Any], *, limit: int, after: Cursor | None) -> Page[Any]:
    """The newest rows of `model` that any of these queries finds, from `after` on.

    One query a branch, each a walk along its own index: an OR between them would read and sort everything.
    """
    found: dict[UUID, Any] = {}
    for query in queries:
        behind = query.where(_sort_key(model) < peewee.Tuple(after.created_at, after.id)) if after else query
        rows = behind.order_by(model.created_at.desc(), model.id.desc()).limit(limit + 1)
        found |= {row.id: row for row in rows}
    rows = sorted(found.values(), key=lambda row: (row.created_at, row.id), reverse=True)
    return _cut(rows[: limit + 1], limit)


def _sort_key(model: Any) -> Any:
    return peewee.Tuple(model.created_at, model.id)
