"""The models of responses that all services share: base, errors, pages of a list."""

from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import MISSING, AfterValidator, Field, WithJsonSchema
from typing_extensions import TypeAliasType

from api.http.fields import Digits, Query, invalid
from api.security.tokens import UnauthorizedReason
from db import pagination
from db.core.errors import ErrorCode
from db.core.json_model import JsonModel
from db.listed_jobs import State as JobState
from db.pagination import Page
from db.states import PaymentStatus


class FieldError(JsonModel):
    """One error of the input: the field, and what is wrong with it."""

    field: Annotated[str, Field(examples=["amount"])]
    message: Annotated[str, Field(examples=["must be a decimal string or a number"])]


class ErrorDetails(JsonModel, extra="allow"):
    """Details of an error, which depend on its code.

    * `VALIDATION_ERROR` has `fields`.
    * `UNAUTHORIZED` and others have `reason`.
    * `RATE_LIMITED` has `retryAfter`, in seconds.
    * `REQUEST_CHANGED` has the current `amount` and `currency` of the payment request.
    * `INVALID_TRANSITION` has the payment's `status`, and `nextStatuses` that can follow it; or the
      `state` of a job.
    """

    fields: list[FieldError] | MISSING = MISSING
    reason: UnauthorizedReason | Literal["read_only", "email_unverified"] | MISSING = MISSING
    retry_after: Annotated[int, Field(ge=1)] | MISSING = MISSING
    amount: Annotated[str, Field(examples=["12.50"])] | MISSING = MISSING
    currency: Annotated[str, Field(examples=["EUR"])] | MISSING = MISSING
    status: PaymentStatus | MISSING = MISSING
    next_statuses: list[PaymentStatus] | MISSING = MISSING
    state: JobState | MISSING = MISSING


class ErrorBody(JsonModel):
    """The code, a sentence for people, and details for programs."""

    code: ErrorCode
    message: Annotated[str, Field(examples=["There is no such payment."])]
    details: ErrorDetails


class ErrorResponse(JsonModel):
    """The body of every error response."""

    success: Literal[False]
    error: ErrorBody


Row = TypeVar("Row")
Item = TypeVar("Item")


def _cursor(value: str) -> str:
    try:
        pagination.Cursor.parse(value)
    except ValueError:
        raise invalid("is not a cursor of this list") from None
    return value


Cursor = TypeAliasType(
    "Cursor",
    Annotated[
        str,
        AfterValidator(_cursor),
        WithJsonSchema(
            {
                "type": "string",
                "pattern": "^[A-Za-z0-9_-]{32}$",
                "description": "The `nextCursor` of the previous page. Opaque.",
                "examples": ["AAZJtfEiwEgBmyxefUp8MZpWD20MOhsu"],
            }
        ),
    ],
)


class PageQuery(Query):
    """The query of a list."""

    limit: Annotated[int, Digits] = Field(20, ge=1, le=100)
    cursor: Cursor | None = None

    @property
    def after(self) -> pagination.Cursor | None:
        """The last row of the previous page; None for the first page."""
        return pagination.Cursor.parse(self.cursor) if self.cursor else None


class Pagination(JsonModel):
    """The position of a page in its list. `nextCursor` is opaque, and null on the last page."""

    limit: Annotated[int, Field(ge=1, le=100, examples=[20])]
    next_cursor: Annotated[str | None, Field(examples=["AAZJtfEiwEgBmyxefUp8MZpWD20MOhsu"])]


class ResponsePage(JsonModel, Generic[Item]):
    """One page of a list. Each list has a subclass, whose name is the schema's: `PaymentPage`."""

    items: list[Item]
    pagination: Pagination

    @classmethod
    def of(cls, rows: Page[Row], build: Callable[[Row], Item], **more: Any) -> Self:
        """The page with one item for each row, built by `build`; `more` are fields of the subclass."""
        position = Pagination(limit=rows.limit, next_cursor=rows.next_cursor)
        return cls(items=[build(row) for row in rows.items], pagination=position, **more)
