"""GET /payments/history: every change of status."""

from typing import Any

from falcon import Request

from api.gateway import caller
from api.gateway.operation import operation
from api.payments import answers, shapes, sight
from api.policies import Permission
from api.shapes import listed
from db import payments


class History:
    """GET /payments/history"""

    @operation(
        Permission.SEE_PAYMENTS,
        "History.",
        name="listHistory",
        asks=shapes.HistoryQuery,
        gives=answers.History,
    )
    def on_get(self, req: Request, wish: shapes.HistoryQuery) -> dict[str, Any]:
        """Every change of status in the caller's own set, newest first."""
        found = payments.moves(
            sight.of(caller.of(req)),
            payment_id=wish.payment_id,
            from_=wish.from_,
            to=wish.to,
            limit=wish.limit,
            after=wish.place,
        )
        return listed(found, shapes.move)
