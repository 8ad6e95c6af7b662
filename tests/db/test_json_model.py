"""The JSON of a model: camelCase, milliseconds, from names or from a record."""

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from uuid import UUID

import pytest
from pydantic import ValidationError
from pydantic_core import to_json

from db.core.json_model import Id, JsonModel, Timestamp

ID = UUID("019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e")
AT = datetime(2026, 1, 31, 10, 30, 0, 125_999, tzinfo=timezone(timedelta(hours=1)))


class Change(JsonModel):
    user_id: Id
    created_at: Timestamp
    ended_at: Timestamp | None


def test_a_model_becomes_camel_case_json_in_utc_with_milliseconds():
    assert to_json({"data": Change(user_id=ID, created_at=AT, ended_at=None)}) == (
        b'{"data":{"userId":"019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e",'
        b'"createdAt":"2026-01-31T09:30:00.125Z","endedAt":null}}'
    )


def test_a_record_with_the_same_attributes_becomes_the_same_model():
    record = SimpleNamespace(user_id=ID, created_at=AT, ended_at=None, secret="not sent")
    assert Change.model_validate(record) == Change(user_id=ID, created_at=AT, ended_at=None)


def test_a_naive_time_is_refused():
    with pytest.raises(ValidationError):
        Change(user_id=ID, created_at=AT.replace(tzinfo=None), ended_at=None)
