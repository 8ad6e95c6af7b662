"""The base of every model that leaves the system as JSON: responses and the data of events."""

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    AliasGenerator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from db.core import times

Id = Annotated[UUID, Field(examples=["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"])]

# An aware datetime; its JSON is UTC with milliseconds, `2026-01-31T09:30:00.125Z`.
Timestamp = Annotated[
    AwareDatetime,
    PlainSerializer(times.iso, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
            "examples": ["2026-01-31T09:30:00.125Z"],
        }
    ),
]


class JsonModel(BaseModel):
    """A closed, frozen model with camelCase names in its JSON.

    It is built from Python names: `User(id=…, created_at=…)`, or from a record with the same attributes:
    `User.model_validate(row)`. A JSON name that is no Python name is a `serialization_alias`.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        from_attributes=True,
        alias_generator=AliasGenerator(serialization_alias=to_camel),
        serialize_by_alias=True,
    )

    @classmethod
    def from_record(cls, record: object, **computed: Any) -> Self:
        """Builds the model of a record, with `computed` fields in place of the attributes of their names."""
        columns = {name: getattr(record, name) for name in cls.model_fields if name not in computed}
        return cls(**computed, **columns)
