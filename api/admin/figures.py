"""Figures of the installation: analytics, samples for plots, what the PSP did."""

from typing import Annotated, Any

from falcon import Request
from pydantic import Field

from api.http.admission import Busy, Shared
from api.http.fields import Digits, Query
from api.http.operation import Operation
from api.operations import request_counts
from api.security.permissions import Permission
from db import postgres, psp_attempts, redis, reports, samples, shared_counts
from db.core import money, times
from db.core.json_model import JsonModel, Timestamp
from db.psp_attempts import PspActivity, PspResult
from db.states import PaymentStatus
from db.users import Role

# Totals that took longer than CHEAP_S to compute are reused for REUSE_FACTOR times as long, so computing them
# costs at most a tenth of one connection's time. The figures of the PSP are reused for PSP_FRESH_S at least.
CHEAP_S, PSP_FRESH_S = 0.5, 1.0
REUSE_FACTOR = 10


class ActiveUsers(JsonModel):
    """How many users were active in the last 24 hours and in the last 7 days."""

    day: Annotated[int, Field(serialization_alias="24h", ge=0, examples=[3])]
    week: Annotated[int, Field(serialization_alias="7d", ge=0, examples=[5])]


class Percentiles(JsonModel):
    """The median and the 95th percentile in milliseconds; null without any values."""

    p50: Annotated[float | None, Field(examples=[95.5])]
    p95: Annotated[float | None, Field(examples=[180.0])]


class RouteStatistics(JsonModel):
    """The requests of one route and method. `errors` counts responses with a 4xx or 5xx status."""

    route: Annotated[str, Field(examples=["/api/payments/:payment_id"])]
    method: Annotated[str, Field(examples=["GET"])]
    count: Annotated[int, Field(ge=0, examples=[12])]
    errors: Annotated[int, Field(ge=0, examples=[1])]
    p50_ms: Annotated[float | None, Field(examples=[4.5])]
    p95_ms: Annotated[float | None, Field(examples=[19.0])]


class Analytics(JsonModel):
    """Figures about users, payments and requests.

    `timeToSettleMs` covers the last seven days. `requests` covers all processes since Redis was last emptied.
    """

    users_by_role: Annotated[dict[Role, int], Field(examples=[{"ADMIN": 1, "CUSTOMER": 7}])]
    active_users: ActiveUsers
    payments_by_status: Annotated[dict[PaymentStatus, int], Field(examples=[{"completed": 12}])]
    volume_by_currency: Annotated[dict[str, str], Field(examples=[{"USD": "150.00"}])]
    success_rate: Annotated[float | None, Field(ge=0, le=1, examples=[1.0])]
    time_to_settle_ms: Percentiles
    requests: list[RouteStatistics]


class SamplesQuery(Query):
    """How far back the samples go."""

    minutes: Annotated[int, Digits] = Field(60, ge=1, le=24 * 60)


class Sample(JsonModel):
    """What the whole installation did in the 15 seconds until `at`. Null: not known.

    `errors` counts responses with a 5xx status, `p95Ms` is the 95th percentile of the durations of requests,
    null without any. `settled` counts payments that completed or failed, `lagMs` is for how long the oldest
    job or event has waited.
    """

    at: Timestamp
    requests: Annotated[int | None, Field(ge=0, examples=[120])]
    errors: Annotated[int | None, Field(ge=0, examples=[0])]
    p95_ms: Annotated[float | None, Field(ge=0, examples=[12.5])]
    settled: Annotated[int | None, Field(ge=0, examples=[30])]
    lag_ms: Annotated[int | None, Field(ge=0, examples=[0])]


class Samples(JsonModel):
    """One sample for each 15 seconds, oldest first."""

    items: list[Sample]


class PspStatus(JsonModel):
    """The calls of the last hour by outcome, and how long they took.

    A call that has not ended is `under_way`, or `interrupted` if its process died. `approvalRate` is the
    share of charged ones among the PSP's decisions, null without any. `unknown` counts payments whose last
    call had no answer, up to 10,000: they are inquired about until the PSP answers.
    """

    outcomes: Annotated[dict[str, int], Field(examples=[{"charged": 120, "declined": 3, "no_answer": 1}])]
    approval_rate: Annotated[float | None, Field(ge=0, le=1, examples=[0.975])]
    p50_ms: Annotated[float | None, Field(ge=0, examples=[80.5])]
    p95_ms: Annotated[float | None, Field(ge=0, examples=[310.0])]
    unknown: Annotated[int, Field(ge=0, examples=[0])]


class Figures:
    """The routes of the figures."""

    def __init__(self, client: redis.Client) -> None:
        self._client = client
        self._totals = Shared(_totals, fresh=_reuse_s)
        self._psp_activity = Shared(_psp_activity, fresh=lambda took: max(PSP_FRESH_S, REUSE_FACTOR * took))

    @Operation(Permission.OPERATE, "Analytics.", errors=(Busy,))
    def get_analytics(self, _req: Request) -> Analytics:
        """Get figures about users, payments and requests.

        On a large installation the figures may be seconds to minutes old. `requests` covers all processes.
        """
        totals = self._totals.get()
        by_status = totals["payments_by_status"] or {}
        completed = by_status.get(PaymentStatus.COMPLETED, 0)
        failed = by_status.get(PaymentStatus.FAILED, 0)
        p50, p95 = totals["time_to_settle"] or (None, None)
        return Analytics(
            users_by_role=totals["users_by_role"] or {},
            active_users=ActiveUsers(day=totals["active_day"], week=totals["active_week"]),
            payments_by_status=by_status,
            volume_by_currency={
                currency: money.text(total, currency)
                for currency, total in totals["volume_by_currency"].items()
            },
            success_rate=completed / (completed + failed) if completed + failed else None,
            time_to_settle_ms=Percentiles(p50=_rounded(p50), p95=_rounded(p95)),
            requests=self._requests(),
        )

    @Operation(Permission.OPERATE, "Samples.")
    def list_samples(self, _req: Request, query: SamplesQuery) -> Samples:
        """List samples of the last minutes.

        Samples are kept for a day. Those of a time without a scheduler are missing; those of a time without
        Redis have no figures about requests.
        """
        found = samples.latest(query.minutes, times.now())
        return Samples(items=[Sample.model_validate(sample) for sample in found])

    @Operation(Permission.OPERATE, "PSP.", errors=(Busy,))
    def get_psp_status(self, _req: Request) -> PspStatus:
        """Get what the PSP did in the last hour."""
        activity = self._psp_activity.get()
        charged = activity.outcomes.get(PspResult.CHARGED, 0)
        decided = charged + activity.outcomes.get(PspResult.DECLINED, 0)
        return PspStatus(
            outcomes=activity.outcomes,
            approval_rate=charged / decided if decided else None,
            p50_ms=_rounded(activity.p50_ms),
            p95_ms=_rounded(activity.p95_ms),
            unknown=activity.unknown,
        )

    def _requests(self) -> list[RouteStatistics]:
        request_counts.flush(self._client)
        try:
            with redis.guarded(self._client):
                routes = shared_counts.by_route(shared_counts.requests(self._client))
        except redis.Unreachable:
            return []
        return [
            RouteStatistics(
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
        return reports.analytics(times.now())


def _psp_activity() -> PspActivity:
    with postgres.connection():
        return psp_attempts.recent_activity()


def _reuse_s(took_s: float) -> float:
    return 0.0 if took_s < CHEAP_S else REUSE_FACTOR * took_s


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)
