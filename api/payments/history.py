"""GET /payments/history: every change of status."""

from typing import Any

from falcon import Request

from api.http.fields import page_of_items
from api.http.operation import operation
from api.middleware import authentication
from api.payments import answers, schemas, visibility
from api.security.permissions import Permission
from db import payments


class History:
    """GET /payments/history"""

    @operation(
        Permission.SEE_PAYMENTS,
        "History.",
        name="listHistory",
        query=schemas.HistoryQuery,
        response=answers.PaymentTransactionPage,
    )
    def on_get(self, req: Request, query: schemas.HistoryQuery) -> dict[str, Any]:
        """Every change of status in the caller's own set, newest first."""
        found = payments.transactions(
            visibility.of(authentication.caller_of(req)),
            payment_id=query.payment_id,
            from_=query.from_,
            to=query.to,
            limit=query.limit,
            after=query.place,
        )
        return page_of_items(found, schemas.move)
