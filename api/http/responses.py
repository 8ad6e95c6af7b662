"""The base model of responses, and the models that all services share."""

from typing import Annotated, Literal

from pydantic import MISSING, ConfigDict, Field

from api.security.tokens import UnauthorizedReason
from db.core.errors import ErrorCode
from db.core.json_model import JsonModel
from db.states import PaymentStatus


class ResponseModel(JsonModel):
    """The `data` of a response, as it is documented and as it is sent."""


class FieldError(ResponseModel):
    """One error of the input: the field, and what is wrong with it."""

    field: Annotated[str, Field(examples=["amount"])]
    message: Annotated[str, Field(examples=["must be a decimal string or a number"])]


class ErrorDetails(ResponseModel):
    """Details of an error, which depend on its code.

    * `VALIDATION_ERROR` has `fields`.
    * `UNAUTHORIZED` and others have `reason`.
    * `RATE_LIMITED` has `retryAfter`, in seconds.
    * `REQUEST_CHANGED` has the current `amount` and `currency` of the payment request.
    * `INVALID_TRANSITION` has the payment's `status`, and `nextStatuses` that can follow it.
    """

    model_config = ConfigDict(extra="allow")

    fields: list[FieldError] | MISSING = MISSING
    reason: UnauthorizedReason | Literal["read_only", "email_unverified"] | MISSING = MISSING
    retry_after: Annotated[int, Field(ge=1)] | MISSING = MISSING
    amount: Annotated[str, Field(examples=["12.50"])] | MISSING = MISSING
    currency: Annotated[str, Field(examples=["EUR"])] | MISSING = MISSING
    status: PaymentStatus | MISSING = MISSING
    next_statuses: list[PaymentStatus] | MISSING = MISSING


class ErrorBody(ResponseModel):
    """The code, a sentence for people, and details for programs."""

    code: ErrorCode
    message: Annotated[str, Field(examples=["There is no such payment."])]
    details: ErrorDetails


class ErrorResponse(ResponseModel):
    """The body of every error response."""

    success: Literal[False]
    error: ErrorBody
