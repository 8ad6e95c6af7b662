"""Request and response models of the admin routes."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import MISSING, AfterValidator, Field
from pydantic.alias_generators import to_camel

from actors import snapshots
from actors.all_jobs import QueueName
from actors.audit import AuditAction
from actors.events import Event
from api.accounts import Name, NewAccount
from api.http.fields import (
    Amount,
    Digits,
    Email,
    IdInput,
    PartialUpdate,
    Query,
    RequestBody,
    TimestampInput,
    invalid,
)
from api.http.responses import PageQuery, ResponsePage
from db.audit_chain import ChainBreak
from db.config import ConfigKey
from db.core import money
from db.core.json_model import Id, JsonModel, Timestamp
from db.states import PaymentStatus
from db.users import Role


class NewUser(NewAccount):
    """The new account. An address with `emailVerified` false gets a verification mail."""

    role: Role = Role.CUSTOMER
    email_verified: bool = False


class UserUpdate(PartialUpdate):
    """The fields to change. `active` false suspends the account, true lifts the suspension."""

    name: Name | MISSING = MISSING
    email: Email | MISSING = MISSING
    email_verified: bool | MISSING = MISSING
    active: bool | MISSING = MISSING


class RoleChange(RequestBody):
    """The new role."""

    role: Role


class UsersQuery(PageQuery):
    """Filters; `q` is searched for in addresses and names, ignoring case."""

    role: Role | None = None
    q: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    active: bool | None = None


class UserAccount(snapshots.User):
    """A user, and whether the account is active: neither suspended nor closed."""

    active: bool


class UserPage(ResponsePage[UserAccount]):
    """One page of users, newest first."""


class EventsQuery(Query):
    """`after` is the `seq` of the last event received, 0 for none."""

    # The largest bigint.
    after: Annotated[int, Digits] = Field(0, ge=0, le=2**63 - 1)
    limit: Annotated[int, Digits] = Field(20, ge=1, le=100)


class EventPage(JsonModel):
    """A part of the event log, oldest first."""

    items: list[Event]


class AuditQuery(PageQuery):
    """Filters; `from` is inclusive, `to` is exclusive."""

    user_id: IdInput | None = None
    # The catalogue and no free text: a misspelt action is refused, not answered with an empty page.
    action: AuditAction | None = None
    resource_type: Annotated[str, Field(max_length=50, pattern="^[ -~]+$")] | None = None
    resource_id: IdInput | None = None
    from_: TimestampInput | None = Field(None, alias="from")
    to: TimestampInput | None = None


class AuditLogEntry(JsonModel):
    """An audited action: the user, the resource, the time and the client.

    `userId` is null for actions of the system. `action` is one of the filter's values, unless the row was
    written behind the application's back.
    """

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


class AuditLogPage(ResponsePage[AuditLogEntry]):
    """One page of the audit log, newest first."""


class AuditLogBreak(JsonModel):
    """The first row that is not as it was written. `id` is null if the newest row was removed."""

    id: Id | None
    reason: Annotated[ChainBreak, Field(examples=[ChainBreak.CHANGED])]


class AuditLogVerification(JsonModel):
    """Whether the hash chain is intact, over how many rows; if not, the first row at fault."""

    ok: bool
    rows: Annotated[int, Field(ge=0, examples=[1024])]
    first_broken: Annotated[AuditLogBreak | None, Field(examples=[None])]


def _two_decimals(value: Decimal) -> Decimal:
    if value != value.quantize(money.MIN_AMOUNT):
        raise invalid("must have at most two decimals")
    return value.quantize(money.MIN_AMOUNT)


_Limit = Annotated[Amount, AfterValidator(_two_decimals)]


_Queues = Annotated[list[QueueName], Field(max_length=100), AfterValidator(lambda names: sorted(set(names)))]


def _config_key(name: str) -> str:
    """Returns the key of a field: `psp.approvalRate` for `psp_approval_rate`."""
    group, _, rest = name.partition("_")
    return f"{group}.{to_camel(rest)}"


class ConfigUpdate(PartialUpdate, alias_generator=_config_key):
    """New values by key. Either all are stored or none."""

    psp_approval_rate: Annotated[float, Field(ge=0, le=1)] | MISSING = MISSING
    psp_latency_ms: Annotated[int, Field(ge=0, le=5000)] | MISSING = MISSING
    payments_max_amount: _Limit | MISSING = MISSING
    payments_request_ttl_hours: Annotated[int, Field(ge=1, le=24 * 365)] | MISSING = MISSING
    payments_daily_limit: Annotated[int, Field(ge=1, le=10_000)] | MISSING | None = MISSING
    payments_unverified_amount: _Limit | MISSING | None = MISSING
    maintenance_read_only: bool | MISSING = MISSING
    queues_paused: _Queues | MISSING = MISSING

    @property
    def values(self) -> dict[ConfigKey, Any]:
        """The values to store, by key; amounts as decimal text."""
        return {
            ConfigKey(_config_key(name)): str(value) if isinstance(value, Decimal) else value
            for name, value in self.named.items()
        }


class ConfigSetting(JsonModel):
    """A key of the configuration. `updatedAt` and `updatedBy` are null while the default is in force."""

    key: Annotated[ConfigKey, Field(examples=[ConfigKey.PSP_APPROVAL_RATE])]
    value: Annotated[Any, Field(examples=[1])]
    description: Annotated[str, Field(examples=["Hours for which a payment request can be paid."])]
    updated_at: Annotated[Timestamp | None, Field(examples=[None])]
    updated_by: Annotated[Id | None, Field(examples=[None])]


class ConfigSettings(JsonModel):
    """Every key of the configuration."""

    items: list[ConfigSetting]


class Invariant(JsonModel):
    """A condition that must always hold: how many records violate it, and the ids of up to 20 of them.

    If the last check did not finish or is too old, `ok` is false, `count` is null and `reason` says why.
    `checkedAt` is null before the first check.
    """

    name: Annotated[str, Field(examples=["charged_once"])]
    ok: bool
    count: Annotated[int | None, Field(ge=0, examples=[0])]
    checked_at: Annotated[Timestamp | None, Field(examples=["2026-01-31T09:30:00.125Z"])]
    offenders: Annotated[list[str], Field(max_length=20, examples=[[]])]
    reason: Annotated[str, Field(examples=["the check took longer than 5 s"])] | MISSING = MISSING


class Invariants(JsonModel):
    """Every invariant, as of its last check. `checkedAt` is the oldest of these checks."""

    ok: bool
    checked_at: Annotated[Timestamp | None, Field(examples=["2026-01-31T09:30:00.125Z"])]
    invariants: list[Invariant]


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
