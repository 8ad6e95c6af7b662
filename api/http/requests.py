"""The base models of a JSON body and of a query string."""

from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, RootModel, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

T = TypeVar("T")


class _Limits:
    """The limits of a body, for both kinds of model."""

    # Whether a request without a body is refused even though no field is required.
    body_required: ClassVar[bool] = False
    # Members of the top object, and values in the whole text.
    max_members: ClassVar[int] = 100
    max_values: ClassVar[int] = 2000
    # A top member that is limited by its size in KiB instead of by `max_values`.
    sized_member: ClassVar[tuple[str, int] | None] = None


class RequestBody(_Limits, BaseModel):
    """A JSON body with camelCase names: types are strict, and unknown fields are refused.

    A field that may be left out, where that differs from null, is declared `T | MISSING = MISSING`.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, hide_input_in_errors=True
    )


class PartialUpdate(RequestBody):
    """A body that changes the fields it names, and must name at least one."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    @model_validator(mode="after")
    def _names_a_field(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("wrong", "names nothing to change")
        return self

    @property
    def named(self) -> dict[str, Any]:
        """The fields that the body names, with their values."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class OneOfBodies(_Limits, RootModel[T]):
    """A body in one of several shapes: whole models, so generated clients know the fields of each."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    body_required: ClassVar[bool] = True


class EmptyBody(RequestBody):
    """The body of an operation without one: absent, or `{}`."""


class Query(RequestBody):
    """A query string. Every value arrives as text, so values are converted leniently."""

    model_config = ConfigDict(strict=False)
