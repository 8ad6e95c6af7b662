"""GET /admin/analytics: what goes on, in figures."""

from typing import Any

from falcon import Request

from api.admin import answers
from api.http.admission import Busy, Shared
from api.http.operation import operation
from api.operations import request_counts
from api.security.permissions import Permission
from db import analytics, postgres, redis, request_metrics
from db.core import money, times
from db.states import PaymentStatus

# Figures that took longer than this, in seconds, serve for ten times as long as they took: so they cost no
# more than a tenth of one connection's time.
_CHEAP_S = 0.5


def _fresh(took: float) -> float:
    return 0.0 if took < _CHEAP_S else 10 * took


class Analytics:
    """GET /admin/analytics"""

    def __init__(self, client: redis.Client) -> None:
        self.client = client
        self._shared = Shared(_figures, fresh=_fresh)

    @operation(
        Permission.OPERATE, "Analytics.", name="getAnalytics", response=answers.Analytics, errors=(Busy,)
    )
    def on_get(self, req: Request) -> dict[str, Any]:
        """People, payments and requests in figures; `requests` are those of all processes.

        Where there is so much that the figures take long, they are some seconds to minutes old.
        """
        found = self._shared.answer(req)
        by_status = found["payments_by_status"] or {}
        completed, failed = (
            by_status.get(status, 0) for status in (PaymentStatus.COMPLETED, PaymentStatus.FAILED)
        )
        p50, p95 = found["time_to_settle"] or (None, None)
        return {
            "usersByRole": found["users_by_role"] or {},
            "activeUsers": {"24h": found["active_day"], "7d": found["active_week"]},
            "paymentsByStatus": by_status,
            "volumeByCurrency": {
                currency: money.text(total, currency)
                for currency, total in found["volume_by_currency"].items()
            },
            "successRate": completed / (completed + failed) if completed + failed else None,
            "timeToSettleMs": {"p50": _ms(p50), "p95": _ms(p95)},
            "requests": self._requests(),
        }

    def _requests(self) -> list[dict[str, Any]]:
        request_counts.hand_on(self.client)
        try:
            with redis.asked(self.client):
                counted = request_metrics.read(self.client)
        except redis.Unreachable:
            return []
        return [
            {
                "route": route,
                "method": method,
                "count": it.count,
                "errors": it.errors,
                "p50Ms": it.quantile(0.5),
                "p95Ms": it.quantile(0.95),
            }
            for (method, route), it in counted.items()
        ]


def _figures() -> dict[str, Any]:
    with postgres.connection():
        return analytics.totals(times.now())


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
