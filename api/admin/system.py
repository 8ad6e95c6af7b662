"""The installation: its configuration, event log, figures, health and invariants."""

from typing import Any

from falcon import Request
from pydantic import MISSING

from actors import audit, events, invariant_checks
from actors.audit import AuditAction
from actors.events import Event, EventType
from actors.jobs import transaction
from api.admin import schemas
from api.http.admission import Busy, Shared
from api.http.operation import Operation
from api.middleware.authentication import caller_of
from api.operations import request_counts
from api.security.permissions import Permission
from db import config, event_log, invariants, postgres, redis, reports, shared_counts
from db.core import money, times
from db.states import PaymentStatus

# Totals that took longer than CHEAP_S to compute are reused for REUSE_FACTOR times as long, so computing them
# costs at most a tenth of one connection's time.
CHEAP_S = 0.5
REUSE_FACTOR = 10


class Config:
    """GET, PUT /admin/config."""

    @Operation(Permission.OPERATE, "Configuration.", name="getConfig", etag=True)
    def on_get(self, _req: Request) -> schemas.ConfigSettings:
        """Get the configuration.

        These settings can be changed without a restart.
        """
        return _settings()

    @Operation(
        Permission.OPERATE,
        "Configuration changed.",
        name="updateConfig",
        examples={"rate": {"psp.approvalRate": 1}, "maintenance": {"maintenance.readOnly": False}},
        allowed_in_maintenance=True,
    )
    def on_put(self, req: Request, body: schemas.ConfigUpdate) -> schemas.ConfigSettings:
        """Change the configuration.

        Changes the keys that are sent, either all or none. Takes effect in every process within two seconds.
        """
        values = body.values
        with transaction():
            # One change at a time, so that each event's `from` is the value before it.
            config.lock_table()
            before = {setting.key: setting.value for setting in config.all_settings()}
            config.update(values, by=caller_of(req).user_id)
            changes = {str(key): {"from": before[key], "to": value} for key, value in values.items()}
            audit.record(AuditAction.CONFIG_UPDATED, details=changes)
            events.emit(EventType.CONFIG_UPDATED, {"changes": changes})
        config.clear_cache()
        return _settings()


def _settings() -> schemas.ConfigSettings:
    settings = config.all_settings()
    return schemas.ConfigSettings(items=[schemas.ConfigSetting.model_validate(each) for each in settings])


class EventLog:
    """GET /admin/events."""

    @Operation(Permission.OPERATE, "Events.", name="listEvents")
    def on_get(self, _req: Request, query: schemas.EventsQuery) -> schemas.EventPage:
        """List events.

        Returns the events after the one whose `seq` is `after`, oldest first, also those that are not
        published yet because Redis is down. The `seq` of the last item is the next `after`.
        """
        log = event_log.after(query.after, query.limit)
        return schemas.EventPage(items=[Event.model_validate(event) for event in log])


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
        totals = self._totals.get()
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
                routes = shared_counts.by_route(shared_counts.read(self.client))
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


def _reuse_s(took_s: float) -> float:
    return 0.0 if took_s < CHEAP_S else REUSE_FACTOR * took_s


def _totals() -> dict[str, Any]:
    with postgres.connection():
        return reports.analytics(times.now())


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)


class Invariants:
    """GET, POST /admin/invariants."""

    @Operation(Permission.OPERATE, "Invariants.", name="getInvariants")
    def on_get(self, _req: Request) -> schemas.Invariants:
        """Get the results of the last invariant checks.

        Checks run every minute and look at the changes of the last day; changes younger than a minute may
        still be in progress. A long audit log is verified whole once a day.
        """
        return _results()

    @Operation(Permission.OPERATE, "Invariant checks started.", name="checkInvariants", status=202)
    def on_post(self, _req: Request) -> schemas.Invariants:
        """Start the invariant checks.

        Checks everything anew, the whole audit log included. The response holds the results of the last
        checks; get the invariants again until `checkedAt` is new.
        """
        with transaction():
            # The run is named by the second: requests within one second share one run.
            invariant_checks.enqueue_checks(times.iso(times.now().replace(microsecond=0)), whole_log=True)
            audit.record(AuditAction.INVARIANTS_CHECKED)
        return _results()


def _results() -> schemas.Invariants:
    results = [
        schemas.Invariant.from_record(status, reason=status.reason or MISSING)
        for status in invariants.statuses(times.now())
    ]
    checks = [result.checked_at for result in results if result.checked_at]
    return schemas.Invariants(
        ok=all(result.ok for result in results),
        checked_at=min(checks) if len(checks) == len(results) else None,
        invariants=results,
    )
