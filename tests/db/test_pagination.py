"""The cursors of keyset pages."""

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
def test_a_cursor_keeps_microseconds(moment):
    cursor = Cursor(moment, uuid4())
    assert Cursor.parse(cursor.encode()) == cursor


@pytest.mark.parametrize(
    "invalid",
    [
        "",
        "x",
        "!!!!",
        "é",
        "AAAA",
        "A" * 400,
        Cursor(datetime(2026, 3, 1, tzinfo=UTC), UUID(int=0)).encode()[:-2],
        "f_________" * 3 + "_w==",
    ],
)
def test_an_invalid_cursor_is_refused(invalid):
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.parse(invalid)
