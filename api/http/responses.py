"""What all responses share: the base model, pages of lists, and errors."""

from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import MISSING, ConfigDict, Field

from api.security.tokens import UnauthorizedReason
from db.core.errors import ErrorCode
from db.core.json_model import JsonModel
from db.pagination import Page
from db.states import PaymentStatus

Row = TypeVar("Row")
Item = TypeVar("Item")


class ResponseModel(JsonModel):
    """The `data` of a response, as it is documented and as it is sent."""


class Pagination(ResponseModel):
    """Where the next page begins; `nextCursor` is opaque, and null on the last page."""

    limit: Annotated[int, Field(ge=1, le=100, examples=[20])]
    next_cursor: Annotated[str | None, Field(examples=["AAZJtfEiwEgBmyxefUp8MZpWD20MOhsu"])]


class ResponsePage(ResponseModel, Generic[Item]):
    """One page of a list. Each list has a subclass, whose name is the schema's: `PaymentPage`."""

    items: list[Item]
    pagination: Pagination

    @classmethod
    def of(cls, page: Page[Row], build: Callable[[Row], Item], **more: Any) -> Self:
        """The page with one item for each row, built by `build`; `more` are the fields of the subclass."""
        position = Pagination(limit=page.limit, next_cursor=page.next_cursor)
        return cls(items=[build(row) for row in page.items], pagination=position, **more)


class FieldError(ResponseModel):
    """What is wrong with one field of the input."""

    field: Annotated[str, Field(examples=["amount"])]
    message: Annotated[str, Field(examples=["must be a decimal string or a number"])]


class ErrorDetails(ResponseModel):
    """What a program may want to know besides the code: `fields` of VALIDATION_ERROR, `reason` of
    UNAUTHORIZED and others, `retryAfter` (seconds) of RATE_LIMITED, `amount` and `currency` of
    REQUEST_CHANGED, `status` and `nextStatuses` (those that can follow it) of INVALID_TRANSITION."""

    model_config = ConfigDict(extra="allow")

    fields: list[FieldError] | MISSING = MISSING
    reason: UnauthorizedReason | Literal["read_only", "email_unverified"] | MISSING = MISSING
    retry_after: Annotated[int, Field(ge=1)] | MISSING = MISSING
    amount: Annotated[str, Field(examples=["12.50"])] | MISSING = MISSING
    currency: Annotated[str, Field(examples=["EUR"])] | MISSING = MISSING
    status: PaymentStatus | MISSING = MISSING
    next_statuses: list[PaymentStatus] | MISSING = MISSING


class ErrorBody(ResponseModel):
    """Why the request was refused."""

    code: ErrorCode
    message: Annotated[str, Field(examples=["There is no such payment."])]
    details: ErrorDetails


class ErrorResponse(ResponseModel):
    """The envelope of every refusal."""

    success: Literal[False]
    error: ErrorBody
