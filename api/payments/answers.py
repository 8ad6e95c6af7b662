"""What the payments routes give."""

from typing import Annotated, Any, Literal

from pydantic import Field

from api.answers import Answer, Id, Moment, Pagination
from api.shapes import Currency
from db.states import Status, Type


class Failure(Answer):
    """Why the money did not move."""

    code: Annotated[str, Field(examples=["insufficient_funds"])]
    message: Annotated[str, Field(examples=["The payment was declined: insufficient funds."])]


class Payment(Answer):
    """A payment, or a request for one. `allowedActions` is what this caller may do with it now."""

    id: Id
    user_id: Id
    type: Annotated[Type, Field(examples=[Type.PAYMENT])]
    status: Status
    amount: Annotated[str, Field(pattern=r"^[0-9]{1,8}(\.[0-9]{2})?$", examples=["12.50"])]
    currency: Currency
    description: Annotated[str | None, Field(examples=["Lunch"])]
    metadata: Annotated[dict[str, Any], Field(examples=[{"table": 4}])]
    request_id: Annotated[Id | None, Field(examples=[None])]
    customer_email: Annotated[str | None, Field(examples=[None])]
    failure: Annotated[Failure | None, Field(examples=[None])]
    allowed_actions: Annotated[list[Literal["pay", "update", "cancel", "fail"]], Field(examples=[[]])]
    version: Annotated[int, Field(ge=1, examples=[1])]
    created_at: Moment
    updated_at: Moment


class Payments(Answer):
    """One page of payments, newest first."""

    items: list[Payment]
    pagination: Pagination
