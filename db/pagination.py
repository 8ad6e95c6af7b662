"""Keyset pagination, newest first: page 100,000 costs as much as page 1, and new rows do not shift pages."""

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any, Generic, TypeVar
from uuid import UUID

import peewee

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


@dataclass(frozen=True)
class Cursor:
    """The end of a page: the creation time, to the microsecond, and the id of its last row."""

    created_at: datetime
    id: UUID

    def encode(self) -> str:
        """Returns the cursor as an opaque, URL-safe string."""
        microseconds = (self.created_at - _EPOCH) // timedelta(microseconds=1)
        return base64.urlsafe_b64encode(struct.pack(">q16s", microseconds, self.id.bytes)).decode()

    @classmethod
    def parse(cls, encoded: str) -> "Cursor":
        """Returns the cursor of a string. Raises ValueError for a string that `encode` did not return."""
        try:
            raw = base64.b64decode(encoded.encode("ascii"), altchars=b"-_", validate=True)
            microseconds, id = struct.unpack(">q16s", raw)
            return cls(_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=id))
        except (struct.error, binascii.Error, UnicodeEncodeError, OverflowError) as error:
            raise ValueError("not a cursor") from error


@dataclass(frozen=True)
class Page(Generic[T]):
    """A page of rows, and the encoded cursor of the next page; None on the last page."""

    items: Sequence[T]
    limit: int
    next_cursor: str | None


def conditions(*pairs: tuple[Any, Any]) -> list[Any]:
    """Returns the conditions of the pairs (value, condition) whose value is not None, preceded by `true`.

    WHERE needs at least one condition.
    """
    return [peewee.SQL("true"), *(condition for value, condition in pairs if value is not None)]


def page(rows: Sequence[Any], limit: int) -> Page[Any]:
    """Returns a page of the first `limit` rows; a further row shows that there is a next page."""
    items = rows[:limit]
    has_next = len(rows) > limit
    return Page(items, limit, Cursor(items[-1].created_at, items[-1].id).encode() if has_next else None)


def newest(model: Any, queries: Sequence[Any], *, count: int, after: Cursor | None) -> Any:
    """Returns a query of the newest rows of `model` that each of the queries finds, starting after a cursor.

    Several queries are united, instead of one with OR: each reads along its own index, while an OR would read
    and sort all rows. The result has up to `count` rows of each query, and a row that two queries find twice.
    """
    key = peewee.Tuple(model.created_at, model.id)
    limited = [
        (query.where(key < peewee.Tuple(after.created_at, after.id)) if after else query)
        .order_by(model.created_at.desc(), model.id.desc())
        .limit(count)
        for query in queries
    ]
    return reduce(lambda one, other: one.union_all(other), limited)


def newest_page(model: Any, queries: Sequence[Any], *, limit: int, after: Cursor | None) -> Page[Any]:
    """Returns a page of the newest rows of `model` that any of the queries finds, starting after a cursor."""
    # One more than the page has, to learn whether there is a next page.
    found = {row.id: row for row in newest(model, queries, count=limit + 1, after=after)}
    return page(sorted(found.values(), key=lambda row: (row.created_at, row.id), reverse=True), limit)
