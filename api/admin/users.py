"""The routes under /admin/users: accounts and their sessions."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID, uuid4

from falcon import Request
from pydantic import MISSING, Field

from actors import account_erasure, audit, events, mail, payment_endings, request_addressees, snapshots
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import enqueue, transaction
from api import accounts
from api.accounts import EmailTaken, Name, NewAccount
from api.http.fields import Email, PartialUpdate, RequestBody
from api.http.operation import Operation
from api.http.pages import PageQuery, ResponsePage
from api.middleware.authentication import caller_of
from api.security.passwords import Passwords
from api.security.permissions import Permission
from api.security.tokens import Tokens
from api.shown_sessions import SessionPage, emit_session_end, session_page
from db import one_time_tokens, sessions, users
from db.core import times
from db.core.errors import DomainError, ErrorCode, NotFound
from db.users import Role, User


class LastAdmin(DomainError, code=ErrorCode.LAST_ADMIN):
    """The last active administrator can be neither suspended, demoted nor closed. Appoint another first."""


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


@dataclass(frozen=True)
class Users:
    """The routes under /api/admin/users."""

    passwords: Passwords
    tokens: Tokens

    @Operation(Permission.OPERATE, "Users.")
    def list_users(self, _req: Request, query: UsersQuery) -> UserPage:
        """List users.

        Newest first, suspended and closed accounts included.
        """
        page = users.page(
            role=query.role, q=query.q, active=query.active, limit=query.limit, after=query.after
        )
        return UserPage.of(page, UserAccount.model_validate)

    @Operation(
        Permission.OPERATE,
        "User created.",
        errors=(EmailTaken,),
        examples={
            "vendor": {
                "email": "alex@example.com",
                "password": "one lamp in a window",
                "name": "Alex Poe",
                "role": "VENDOR",
                "emailVerified": True,
            }
        },
        status=201,
    )
    def create_user(self, _req: Request, body: NewUser) -> UserAccount:
        """Create a user.

        Any role is allowed. Unless `emailVerified` is true, the user gets a verification mail.
        """
        password_hash = self.passwords.hash(body.password)
        with transaction():
            user = accounts.add(body, body.role, password_hash, email_verified=body.email_verified)
            if not user.email_verified:
                enqueue(mail.request_verification.job(user.id))
            return _record(user, AuditAction.USER_CREATED, EventType.ADMIN_USER_CREATED, role=user.role)

    @Operation(Permission.OPERATE, "User.", etag=True)
    def get_user(self, _req: Request, user_id: UUID) -> UserAccount:
        """Get a user."""
        user = users.get(user_id)
        if user is None:
            raise NotFound(thing="user")
        return UserAccount.model_validate(user)

    @Operation(
        Permission.OPERATE,
        "User changed.",
        errors=(EmailTaken, LastAdmin),
        examples={"name": {"name": "Robin Doe"}, "suspend": {"active": False}},
    )
    def update_user(self, _req: Request, user_id: UUID, body: UserUpdate) -> UserAccount:
        """Update or suspend a user.

        Changes the fields that are sent. A new address is unverified unless `emailVerified` is sent as true.
        `active` false suspends the account: the user cannot sign in, every token stops working, a vendor's
        open requests are cancelled. `active` true lets the user sign in again.
        """
        changes = body.named
        suspends = body.active is False
        with transaction():
            user = _lock_open(user_id, ends_admin=suspends)
            new_address = changes.get("email", user.email).lower() != user.email.lower()
            if new_address:
                changes.setdefault("email_verified", False)
                # Links that were mailed to the old address must not act on the new one.
                one_time_tokens.withdraw_all(user.id, times.now())
            changed = users.change(user.id, **changes)
            if changed is None:
                raise EmailTaken
            if changed.email_verified and (not user.email_verified or user.email != changed.email):
                request_addressees.bind_verified(changed)
            if suspends:
                sessions.end(user.id)
                if user.role == Role.VENDOR:
                    payment_endings.enqueue_withdrawal(user.id)
            if new_address:
                enqueue(mail.notify_old_address.job(user.id, user.email, uuid4()))
            if user.email != changed.email and not changed.email_verified:
                enqueue(mail.request_verification.job(user.id))
            fields = sorted(body.model_fields_set)
            return _record(changed, AuditAction.USER_UPDATED, EventType.ADMIN_USER_UPDATED, fields=fields)

    @Operation(Permission.OPERATE, "Account closed.", errors=(LastAdmin,))
    def close_user(self, _req: Request, user_id: UUID) -> UserAccount:
        """Close a user's account.

        The user cannot sign in, every token stops working, and a job erases the personal data. Payments and
        audit log entries stay.
        """
        with transaction():
            user = _lock_open(user_id, ends_admin=True)
            closed = account_erasure.close(user)
            if user.role == Role.VENDOR:
                payment_endings.enqueue_withdrawal(user.id)
            return _record(closed, AuditAction.USER_CLOSED, EventType.ADMIN_USER_DELETED)

    @Operation(Permission.OPERATE, "Role changed.", errors=(LastAdmin,))
    def change_role(self, _req: Request, user_id: UUID, body: RoleChange) -> UserAccount:
        """Change a user's role.

        Takes effect at the user's next request.
        """
        with transaction():
            user = _lock_open(user_id, ends_admin=body.role != Role.ADMIN)
            changed = users.change(user.id, role=body.role) or user
            if user.role == Role.VENDOR != changed.role:
                payment_endings.enqueue_withdrawal(user.id)
            action, event = AuditAction.USER_ROLE_CHANGED, EventType.ADMIN_USER_UPDATED
            return _record(changed, action, event, **{"from": user.role, "to": changed.role})

    @Operation(Permission.OPERATE, "Sessions.")
    def list_user_sessions(self, req: Request, user_id: UUID, query: PageQuery) -> SessionPage:
        """List a user's sessions.

        Only live sessions, newest first.
        """
        page = session_page(self.tokens, user_id, query, current=caller_of(req).session_id)
        if not page.items and users.get(user_id) is None:
            raise NotFound(thing="user")
        return page

    @Operation(Permission.OPERATE, "Sessions ended.")
    def end_user_sessions(self, _req: Request, user_id: UUID) -> None:
        """End all sessions of a user.

        Their access and refresh tokens stop working at the next request.
        """
        with transaction():
            if users.locked(user_id) is None:
                raise NotFound(thing="user")
            ended = sessions.end(user_id)
            _record_session_end(user_id, everywhere=True, details={"sessions": ended})

    @Operation(Permission.OPERATE, "Session ended.")
    def end_user_session(self, _req: Request, user_id: UUID, session_id: UUID) -> None:
        """End one session of a user."""
        with transaction():
            if not sessions.end(user_id, only=[session_id]):
                raise NotFound(thing="session")
            _record_session_end(user_id, everywhere=False, details={"sessionId": str(session_id)})


def _lock_open(user_id: UUID, *, ends_admin: bool) -> User:
    """Locks and returns a user whose account is not closed, with all active administrators.

    `ends_admin` says that the change leaves the user no active administrator. Raises NotFound or LastAdmin.
    """
    user, admins = users.locked_with_admins(user_id)
    if user is None or user.closed_at is not None:
        raise NotFound(thing="open account")
    if ends_admin and admins == [user.id]:
        raise LastAdmin
    return user


def _record(user: User, action: AuditAction, event: EventType, **details: Any) -> UserAccount:
    """Audits and emits a change of a user; returns the user as changed."""
    account = UserAccount.model_validate(user)
    audit.record(action, resource=("user", user.id), details=details)
    events.emit(event, account.model_dump(mode="json"))
    return account


def _record_session_end(user_id: UUID, *, everywhere: bool, details: dict[str, Any]) -> None:
    audit.record(AuditAction.USER_SESSIONS_ENDED, resource=("user", user_id), details=details)
    emit_session_end(user_id, everywhere=everywhere)
