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
