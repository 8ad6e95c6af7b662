"""GET /admin/analytics: what goes on, in figures."""

from dataclasses import dataclass
from typing import Any

from falcon import Request

from api.admin import answers
from api.gateway import meter as gate
from api.gateway.operation import operation
from api.policies import Permission
from db import analytics, meter, money, redis, times
from db.states import Status


@dataclass
class Analytics:
    """GET /admin/analytics"""

    client: redis.Client

    @operation(Permission.OPERATE, "Analytics.", name="getAnalytics", gives=answers.Analytics)
    def on_get(self, _req: Request) -> dict[str, Any]:
        """People, payments and requests in figures; `requests` are those of all processes."""
        found = analytics.figures(times.now())
        by_status = found["payments_by_status"] or {}
        completed, failed = (by_status.get(status, 0) for status in (Status.COMPLETED, Status.FAILED))
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
        gate.hand_on(self.client)
        try:
            with redis.asked(self.client):
                counted = meter.read(self.client)
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


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
