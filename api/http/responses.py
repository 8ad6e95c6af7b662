"""What all answers share: closed, camelCase. They document, and tests hold answers to them; none is sent
through them, the door sends plain dicts."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from api.security.tokens import UnauthorizedReason
from db.core.errors import ErrorCode
from db.states import PaymentStatus
from db.users import Role

Id = Annotated[UUID, Field(examples=["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"])]
Timestamp = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
            "examples": ["2026-01-31T09:30:00.125Z"],
        }
    ),
]


class ResponseModel(BaseModel):
    """The data of an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Pagination(ResponseModel):
    """Where the next page begins; `nextCursor` is opaque, and null on the last page."""

    limit: Annotated[int, Field(ge=1, le=100, examples=[20])]
    next_cursor: Annotated[str | None, Field(examples=["AAZJtfEiwEgBmyxefUp8MZpWD20MOhsu"])]


class User(ResponseModel):
    """A person."""

    id: Id
    email: Annotated[str, Field(examples=["customer@example.com"])]
    name: Annotated[str, Field(examples=["Robin Doe"])]
    role: Annotated[Role, Field(examples=[Role.CUSTOMER])]
    email_verified: bool
    created_at: Timestamp
    updated_at: Timestamp


class FieldError(ResponseModel):
    """What is wrong with one field of the input."""

    field: Annotated[str, Field(examples=["amount"])]
    message: Annotated[str, Field(examples=["must be a decimal string or a number"])]


class ErrorDetails(BaseModel):
    """What a program may want to know besides the code: `fields` of VALIDATION_ERROR, `reason` of
    UNAUTHORIZED and others, `retryAfter` (seconds) of RATE_LIMITED, `amount` and `currency` of
    REQUEST_CHANGED, `status` and `nextStatuses` (those that can follow it) of INVALID_TRANSITION."""

    model_config = ConfigDict(extra="allow")

    fields: list[FieldError] = Field(default_factory=list)
    reason: UnauthorizedReason | Literal["read_only", "email_unverified"] = Field(
        default_factory=lambda: UnauthorizedReason.MISSING
    )
    retry_after: int = Field(default_factory=int, ge=1, alias="retryAfter")
    amount: str = Field(default_factory=str, examples=["12.50"])
    currency: str = Field(default_factory=str, examples=["EUR"])
    status: PaymentStatus = Field(default_factory=lambda: PaymentStatus.PENDING)
    next_statuses: list[PaymentStatus] = Field(default_factory=list, alias="nextStatuses")


class ErrorBody(ResponseModel):
    """Why the request was refused."""

    code: ErrorCode
    message: Annotated[str, Field(examples=["There is no such payment."])]
    details: ErrorDetails


class ErrorResponse(ResponseModel):
    """The envelope of every refusal."""

    success: Literal[False]
    error: ErrorBody
