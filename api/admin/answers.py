"""What the admin routes give."""

from typing import Annotated, Any, Literal

from pydantic import Field

from actors import events
from api.http.responses import Pagination, ResponseModel, User
from db.audit_chain import ChainBreak
from db.config import ConfigKey
from db.core.json_model import Id, Timestamp
from db.states import PaymentStatus
from db.users import Role


class UserAccount(User):
    """A person, and whether their account is open."""

    active: bool


class UserPage(ResponseModel):
    """One page of people, newest first."""

    items: list[UserAccount]
    pagination: Pagination


class ConfigSetting(ResponseModel):
    """One key of the configuration; who changed it last, if anybody did."""

    key: Annotated[ConfigKey, Field(examples=[ConfigKey.PSP_APPROVAL_RATE])]
    value: Annotated[Any, Field(examples=[1])]
    description: Annotated[str, Field(examples=["For how long a request may be paid, in hours."])]
    updated_at: Annotated[Timestamp | None, Field(examples=[None])]
    updated_by: Annotated[Id | None, Field(examples=[None])]


class ConfigSettings(ResponseModel):
    """Every key there is."""

    items: list[ConfigSetting]


class SchedulerStatus(ResponseModel):
    """Which process leads, null when none does; when each of its jobs last ran to its end."""

    leader: Annotated[str | None, Field(examples=["host-1:4711"])]
    last_runs: Annotated[
        dict[str, Timestamp | None], Field(examples=[{"payments.reconcile": "2026-01-31T09:30:00.125Z"}])
    ]


class AdminHealth(ResponseModel):
    """`queues` counts jobs that are not done yet, up to 100,000 each, and `queueAgeSeconds` says how old the
    oldest is that is due (0 without any); `workers` counts the processes of each kind that are alive."""

    database: Literal["ok"]
    redis: Literal["ok", "down"]
    version: Annotated[str, Field(examples=["0.1.0"])]
    queues: Annotated[dict[str, int], Field(examples=[{"payments": 2, "psp": 0}])]
    queue_age_seconds: Annotated[dict[str, float], Field(examples=[{"payments": 0.25, "psp": 0}])]
    oldest_job_seconds: Annotated[float | None, Field(examples=[0.25])]
    dead_jobs: Annotated[int, Field(ge=0, examples=[0])]
    dead_jobs_by_name: Annotated[dict[str, int], Field(examples=[{"mail.send": 1}])]
    needs_review: Annotated[int, Field(ge=0, examples=[0])]
    missed_events: Annotated[int, Field(ge=0, examples=[0])]
    workers: Annotated[dict[str, int], Field(examples=[{"payments": 1, "psp": 1}])]
    scheduler: SchedulerStatus


class Invariant(ResponseModel):
    """Something that must hold: how many break it, and the ids of some.

    One whose last look could not be finished, or is too old, is not `ok`, and has no `count`; `reason` says
    why. `checkedAt` is null before the first look.
    """

    name: Annotated[str, Field(examples=["charged_once"])]
    ok: bool
    count: Annotated[int | None, Field(ge=0, examples=[0])]
    checked_at: Annotated[Timestamp | None, Field(examples=["2026-01-31T09:30:00.125Z"])]
    offenders: Annotated[list[str], Field(max_length=20, examples=[[]])]
    reason: Annotated[str, Field(examples=["looking at it took longer than 5 s"])] = Field(
        default_factory=str
    )


class Invariants(ResponseModel):
    """Everything that must hold, as it stood when it was looked at last; `checkedAt` is the oldest look."""

    ok: bool
    checked_at: Annotated[Timestamp | None, Field(examples=["2026-01-31T09:30:00.125Z"])]
    invariants: list[Invariant]


class ActiveUsers(ResponseModel):
    """How many people used their session in the last day, and in the last week."""

    day: Annotated[int, Field(serialization_alias="24h", ge=0, examples=[3])]
    week: Annotated[int, Field(serialization_alias="7d", ge=0, examples=[5])]


class Percentiles(ResponseModel):
    """Half of them took at most `p50`, 95 % at most `p95`, in ms; null without any."""

    p50: Annotated[float | None, Field(examples=[95.5])]
    p95: Annotated[float | None, Field(examples=[180.0])]


class RouteStatistics(ResponseModel):
    """The requests of one route; `errors` are those that were refused or failed (4xx, 5xx)."""

    route: Annotated[str, Field(examples=["/api/payments/:payment_id"])]
    method: Annotated[str, Field(examples=["GET"])]
    count: Annotated[int, Field(ge=0, examples=[12])]
    errors: Annotated[int, Field(ge=0, examples=[1])]
    p50_ms: Annotated[float | None, Field(examples=[4.5])]
    p95_ms: Annotated[float | None, Field(examples=[19.0])]


class Analytics(ResponseModel):
    """What goes on. The time to settle is that of the last seven days; requests are counted since Redis
    began to, by all processes."""

    users_by_role: Annotated[dict[Role, int], Field(examples=[{"ADMIN": 1, "CUSTOMER": 7}])]
    active_users: ActiveUsers
    payments_by_status: Annotated[dict[PaymentStatus, int], Field(examples=[{"completed": 12}])]
    volume_by_currency: Annotated[dict[str, str], Field(examples=[{"USD": "150.00"}])]
    success_rate: Annotated[float | None, Field(ge=0, le=1, examples=[1.0])]
    time_to_settle_ms: Percentiles
    requests: list[RouteStatistics]


class Event(ResponseModel):
    """One event, as on the channel `events`; `seq` rises by one from each to the next."""

    id: Id
    seq: Annotated[int, Field(ge=1, examples=[276])]
    # Not the enum itself: a payment's Type has the name in the document.
    type: Annotated[
        str,
        Field(json_schema_extra={"enum": list(events.EventType)}, examples=[events.EventType.PAYMENT_FAILED]),
    ]
    data: Annotated[dict[str, Any], Field(examples=[{"status": "completed"}])]
    timestamp: Timestamp
    request_id: Annotated[str | None, Field(examples=["a54f0afe"])]


class EventPage(ResponseModel):
    """Some of the event log, oldest first."""

    items: list[Event]


class AuditLogEntry(ResponseModel):
    """Who did what to what, when and from where. `userId` is null for what nobody asked for; `action` is one
    of those that the filter takes, unless somebody else wrote the row."""

    id: Id
    user_id: Id | None
    action: Annotated[str, Field(examples=["payments.payment.cancel"])]
    resource_type: Annotated[str | None, Field(examples=["payment"])]
    resource_id: Id | None
    details: Annotated[Any, Field(examples=[{"from": "pending", "to": "cancelled"}])]
    ip_address: Annotated[str | None, Field(examples=["203.0.113.7"])]
    user_agent: Annotated[str | None, Field(examples=["curl/8.5.0"])]
    request_id: Annotated[str | None, Field(examples=["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"])]
    created_at: Timestamp


class AuditLogPage(ResponseModel):
    """One page of the audit log, newest first."""

    items: list[AuditLogEntry]
    pagination: Pagination


class AuditLogBreak(ResponseModel):
    """The first row that is not as it was written; without an id where it is the newest, and gone."""

    id: Id | None
    reason: Annotated[ChainBreak, Field(examples=[ChainBreak.CHANGED])]


class AuditLogVerification(ResponseModel):
    """Whether the chain holds, over how many rows; if not, where it is broken first."""

    ok: bool
    rows: Annotated[int, Field(ge=0, examples=[1024])]
    first_broken: Annotated[AuditLogBreak | None, Field(examples=[None])]
