"""The permissions of each role. Whose records a caller may see is decided where the records are read."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from db.core.errors import DomainError, ErrorCode
from db.users import Role


class Permission(StrEnum):
    """What a route requires of its caller."""

    ANYONE = "anyone"
    SIGNED_IN = "signed in"
    SEE_PAYMENTS = "see payments"
    CREATE_PAYMENT = "create a payment"
    REQUEST_MONEY = "request money"
    PAY = "pay"
    CHANGE_PAYMENTS = "change payments"
    SEE_REPORTS = "see reports"
    SETTLE_BY_HAND = "settle payments by hand"
    OPERATE = "operate"


_ALL_ROLES = frozenset(Role)

ROLES_BY_PERMISSION: dict[Permission, frozenset[Role]] = {
    Permission.ANYONE: _ALL_ROLES,
    Permission.SIGNED_IN: _ALL_ROLES,
    Permission.SEE_PAYMENTS: _ALL_ROLES,
    Permission.CREATE_PAYMENT: frozenset({Role.VENDOR, Role.CUSTOMER}),
    Permission.REQUEST_MONEY: frozenset({Role.VENDOR}),
    Permission.PAY: frozenset({Role.CUSTOMER}),
    Permission.CHANGE_PAYMENTS: frozenset({Role.VENDOR, Role.ADMIN}),
    Permission.SEE_REPORTS: frozenset({Role.VENDOR, Role.ADMIN}),
    Permission.SETTLE_BY_HAND: frozenset({Role.ADMIN}),
    Permission.OPERATE: frozenset({Role.ADMIN}),
}


@dataclass(frozen=True)
class Caller:
    """The signed-in user, as the database has them now: the access token only names the session."""

    user_id: UUID
    email: str
    role: Role
    session_id: UUID

    def may(self, permission: Permission) -> bool:
        return self.role in ROLES_BY_PERMISSION[permission]


class Forbidden(DomainError, code=ErrorCode.FORBIDDEN):
    """The role {role} may not do this."""
