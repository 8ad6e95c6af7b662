"""What the admin routes take and give."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from actors import snapshots
from actors.audit import AuditAction
from api.accounts import Name, NewAccount
from api.http.fields import (
    Amount,
    Digits,
    Email,
    Id,
    Moment,
    PageQuery,
    PartialUpdate,
    Query,
    RequestBody,
    invalid,
)
from db.audit_log import AuditFilter, AuditLog
from db.config import ConfigKey
from db.core import money, times
from db.users import Role, User


class NewUser(NewAccount):
    """An account that an administrator opens for somebody."""

    role: Role = Role.CUSTOMER
    email_verified: bool = False


class UserUpdate(PartialUpdate):
    """What may be changed of a person."""

    # A default that is made is no part of the schema: left out is not null.
    name: Name = Field(default_factory=str)
    email: Email = Field(default_factory=str)
    email_verified: bool = Field(default_factory=bool)
    # False suspends the account.
    active: bool = Field(default_factory=bool)


class RoleChange(RequestBody):
    """Another role."""

    role: Role


class UsersQuery(PageQuery):
    """Which people."""

    role: Role | None = None
    q: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    active: bool | None = None


class EventsQuery(Query):
    """From which event on, and how many at most."""

    # As far as a bigint goes.
    after: Annotated[int, Digits] = Field(0, ge=0, le=2**63 - 1)
    limit: Annotated[int, Digits] = Field(20, ge=1, le=100)


class AuditQuery(PageQuery):
    """Which rows of the audit log: from `from` on, and before `to`."""

    user_id: Id | None = None
    # One of the catalogue: a slip of the pen is told, and not answered with an empty page.
    action: AuditAction | None = None
    resource_type: Annotated[str, Field(max_length=50, pattern="^[ -~]+$")] | None = None
    resource_id: Id | None = None
    from_: Moment | None = Field(None, alias="from")
    to: Moment | None = None

    @property
    def filter(self) -> AuditFilter:
        """As the database is asked."""
        return AuditFilter(
            self.user_id, self.action, self.resource_type, self.resource_id, self.from_, self.to
        )


def _largest(value: Decimal) -> Decimal:
    if value != value.quantize(money.MIN_AMOUNT):
        raise invalid("must have at most two decimals")
    return value.quantize(money.MIN_AMOUNT)


class ConfigUpdate(PartialUpdate):
    """New values by key: all are written, or none."""

    model_config = ConfigDict(alias_generator=None, json_schema_extra={"minProperties": 1})

    psp_approval_rate: float = Field(default_factory=float, alias="psp.approvalRate", ge=0, le=1)
    psp_latency_ms: int = Field(default_factory=int, alias="psp.latencyMs", ge=0, le=5000)
    payments_max_amount: Annotated[Amount, AfterValidator(_largest)] = Field(
        default_factory=lambda: money.MAX_AMOUNT, alias="payments.maxAmount"
    )
    payments_request_ttl_hours: int = Field(
        default_factory=int, alias="payments.requestTtlHours", ge=1, le=24 * 365
    )
    payments_daily_limit: int | None = Field(
        default_factory=lambda: None, alias="payments.dailyLimit", ge=1, le=10_000
    )
    payments_unverified_amount: Annotated[Amount, AfterValidator(_largest)] | None = Field(
        default_factory=lambda: None, alias="payments.unverifiedAmount"
    )
    maintenance_read_only: bool = Field(default_factory=bool, alias="maintenance.readOnly")

    @property
    def values(self) -> dict[ConfigKey, Any]:
        """The values that are named, as they are kept."""
        found = {
            ConfigKey(str(type(self).model_fields[name].alias)): value for name, value in self.named.items()
        }
        return {key: str(value) if isinstance(value, Decimal) else value for key, value in found.items()}


def person(user: User) -> dict[str, Any]:
    """A person, and whether their account is open."""
    return {**snapshots.user(user), "active": user.active}


def audit_line(it: AuditLog) -> dict[str, Any]:
    """A row of the audit log."""
    return {
        "id": str(it.id),
        "userId": str(it.user_id) if it.user_id else None,
        "action": it.action,
        "resourceType": it.resource_type,
        "resourceId": str(it.resource_id) if it.resource_id else None,
        "details": it.details,
        "ipAddress": it.ip_address,
        "userAgent": it.user_agent,
        "requestId": it.request_id,
        "createdAt": times.iso(it.created_at),
    }
