"""Cursors."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from db.pagination import Cursor


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
)
def test_a_cursor_keeps_its_place_to_the_microsecond(moment):
    place = Cursor(moment, uuid4())
    assert Cursor.parse(place.cursor()) == place


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!!",
        "é",
        "AAAA",
        "A" * 400,
        Cursor(datetime(2026, 3, 1, tzinfo=UTC), UUID(int=0)).cursor()[:-2],
        "f_________" * 3 + "_w==",
    ],
)
def test_what_is_no_cursor_is_refused(cursor):
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.parse(cursor)
