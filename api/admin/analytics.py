"""GET /admin/analytics."""

from typing import Any

from falcon import Request

from api.admin import schemas
from api.http.admission import Busy, Shared
from api.http.operation import Operation
from api.operations import request_counts
from api.security.permissions import Permission
from db import analytics, postgres, redis, request_metrics
from db.core import money, times
from db.states import PaymentStatus

# Totals that took longer than CHEAP_S to compute are reused for REUSE_FACTOR times as long, so computing them
# costs at most a tenth of one connection's time.
CHEAP_S = 0.5
REUSE_FACTOR = 10


def _reuse_s(took_s: float) -> float:
    return 0.0 if took_s < CHEAP_S else REUSE_FACTOR * took_s


class Analytics:
    """GET /admin/analytics."""

    def __init__(self, client: redis.Client) -> None:
        self.client = client
        self._totals = Shared(_totals, fresh=_reuse_s)

    @Operation(Permission.OPERATE, "Analytics.", name="getAnalytics", errors=(Busy,))
    def on_get(self, _req: Request) -> schemas.Analytics:
        """Get figures about users, payments and requests.

        On a large installation the figures may be seconds to minutes old. `requests` covers all processes.
        """
        totals = self._totals.answer()
        by_status = totals["payments_by_status"] or {}
        completed = by_status.get(PaymentStatus.COMPLETED, 0)
        failed = by_status.get(PaymentStatus.FAILED, 0)
        p50, p95 = totals["time_to_settle"] or (None, None)
        return schemas.Analytics(
            users_by_role=totals["users_by_role"] or {},
            active_users=schemas.ActiveUsers(day=totals["active_day"], week=totals["active_week"]),
            payments_by_status=by_status,
            volume_by_currency={
                currency: money.text(total, currency)
                for currency, total in totals["volume_by_currency"].items()
            },
            success_rate=completed / (completed + failed) if completed + failed else None,
            time_to_settle_ms=schemas.Percentiles(p50=_rounded(p50), p95=_rounded(p95)),
            requests=self._requests(),
        )

    def _requests(self) -> list[schemas.RouteStatistics]:
        request_counts.flush(self.client)
        try:
            with redis.guarded(self.client):
                routes = request_metrics.by_route(request_metrics.read(self.client))
        except redis.Unreachable:
            return []
        return [
            schemas.RouteStatistics(
                route=route,
                method=method,
                count=metrics.durations.count,
                errors=metrics.errors,
                p50_ms=metrics.durations.quantile_ms(0.5),
                p95_ms=metrics.durations.quantile_ms(0.95),
            )
            for (method, route), metrics in routes.items()
        ]


def _totals() -> dict[str, Any]:
    with postgres.connection():
        return analytics.totals(times.now())


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)
