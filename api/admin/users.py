"""Accounts, as an administrator sees and changes them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from falcon import Request

from actors import account_erasure, audit, events, mail, payment_endings, request_addressees
from actors.jobs import enqueue, transaction
from api import accounts
from api.accounts import EmailTaken
from api.admin import answers, schemas
from api.http.fields import page_of_items
from api.http.operation import operation
from api.security.passwords import Passwords
from api.security.permissions import Permission
from db import one_time_tokens, sessions, users
from db.core import times
from db.core.errors import DomainError, ErrorCode, NotFound
from db.one_time_tokens import Purpose
from db.users import Role, User


class LastAdmin(DomainError):
    """This is the last administrator: somebody must be able to make another."""

    code = ErrorCode.LAST_ADMIN


@dataclass
class Users:
    """GET, POST /admin/users"""

    passwords: Passwords

    @operation(
        Permission.OPERATE, "Users.", name="listUsers", query=schemas.UsersQuery, response=answers.UserPage
    )
    def on_get(self, _req: Request, query: schemas.UsersQuery) -> dict[str, Any]:
        """Everybody, closed accounts too, newest first; `q` is looked for in addresses and names."""
        page = users.page(
            role=query.role, q=query.q, active=query.active, limit=query.limit, after=query.place
        )
        return page_of_items(page, schemas.person)

    @operation(
        Permission.OPERATE,
        "User created.",
        name="createUser",
        body=schemas.NewUser,
        response=answers.UserAccount,
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
    def on_post(self, _req: Request, body: schemas.NewUser) -> dict[str, Any]:
        """Opens an account for somebody, with any role. Who is not verified gets the mail that asks them."""
        hashed = self.passwords.hash(body.password)
        with transaction():
            user = accounts.add(
                email=body.email,
                password_hash=hashed,
                name=body.name,
                role=Role(body.role),
                email_verified=body.email_verified,
            )
            _tell(
                user, audit.AuditAction.USER_CREATED, events.EventType.ADMIN_USER_CREATED, {"role": user.role}
            )
            if not user.email_verified:
                enqueue(mail.request_verification.job(user.id))
        return schemas.person(user)


class OneUser:
    """GET, PUT, DELETE /admin/users/:id"""

    @operation(Permission.OPERATE, "User.", name="getUser", response=answers.UserAccount, etag=True)
    def on_get(self, _req: Request, user_id: UUID) -> dict[str, Any]:
        """One person."""
        user = users.get(user_id)
        if user is None:
            raise NotFound(thing="user")
        return schemas.person(user)

    @operation(
        Permission.OPERATE,
        "User changed.",
        name="updateUser",
        body=schemas.UserUpdate,
        response=answers.UserAccount,
        errors=(EmailTaken, LastAdmin),
        examples={"name": {"name": "Robin Doe"}, "suspend": {"active": False}},
    )
    def on_put(self, _req: Request, user_id: UUID, body: schemas.UserUpdate) -> dict[str, Any]:
        """Changes the fields that are named. Another address is not verified, unless that is said too.

        `active: false` suspends the account: no sign-in, every token dead, a vendor's open requests are
        cancelled. `active: true` lets its owner sign in again.
        """
        changes = body.named
        suspends = changes.get("active") is False
        with transaction():
            user, admins = _open(user_id)
            if suspends and admins == [user.id]:
                raise LastAdmin
            if changes.get("email", user.email).lower() != user.email.lower():
                changes.setdefault("email_verified", False)
                # What was mailed to the old address is good for nothing now.
                for purpose in Purpose:
                    one_time_tokens.consume_all(user.id, purpose, times.now())
            changed = users.change(user.id, **changes)
            if changed is None:
                raise EmailTaken
            if changed.email_verified and (not user.email_verified or user.email != changed.email):
                request_addressees.bind_verified(changed)
            if suspends:
                sessions.end_all(user.id)
                if user.role == Role.VENDOR:
                    payment_endings.enqueue_withdrawal(user.id)
            details = {"fields": sorted(body.model_fields_set)}
            _tell(changed, audit.AuditAction.USER_UPDATED, events.EventType.ADMIN_USER_UPDATED, details)
            if user.email.lower() != changed.email.lower():
                enqueue(mail.notify_old_address.job(user.id, user.email, uuid4()))
            if user.email != changed.email and not changed.email_verified:
                enqueue(mail.request_verification.job(user.id))
        return schemas.person(changed)

    @operation(
        Permission.OPERATE,
        "Account closed.",
        name="closeUser",
        response=answers.UserAccount,
        errors=(LastAdmin,),
    )
    def on_delete(self, _req: Request, user_id: UUID) -> dict[str, Any]:
        """Closes an account: no sign-in, every token dead; a job erases the personal data wherever it stands.

        What was paid and what was done stays written down.
        """
        with transaction():
            user, admins = _open(user_id)
            if admins == [user.id]:
                raise LastAdmin
            closed = account_erasure.close(user)
            if user.role == Role.VENDOR:
                payment_endings.enqueue_withdrawal(user.id)
            _tell(closed, audit.AuditAction.USER_CLOSED, events.EventType.ADMIN_USER_DELETED, {})
        return schemas.person(closed)


class UserRole:
    """PUT /admin/users/:id/role"""

    @operation(
        Permission.OPERATE,
        "Role changed.",
        name="changeRole",
        body=schemas.RoleChange,
        response=answers.UserAccount,
        errors=(LastAdmin,),
    )
    def on_put(self, _req: Request, user_id: UUID, body: schemas.RoleChange) -> dict[str, Any]:
        """Gives somebody another role: it counts at their next request."""
        with transaction():
            user, admins = _open(user_id)
            if admins == [user.id] and body.role != Role.ADMIN:
                raise LastAdmin
            changed = users.change(user.id, role=body.role) or user
            if user.role == Role.VENDOR != changed.role:
                payment_endings.enqueue_withdrawal(user.id)
            details = {"from": user.role, "to": changed.role}
            _tell(changed, audit.AuditAction.USER_ROLE_CHANGED, events.EventType.ADMIN_USER_UPDATED, details)
        return schemas.person(changed)


def _open(user_id: UUID) -> tuple[User, list[UUID]]:
    """A user whose account is not closed, and the active administrators, all locked. Raises NotFound."""
    user, admins = users.locked_with_admins(user_id)
    if user is None or user.closed_at is not None:
        raise NotFound(thing="open account")
    return user, admins


def _tell(user: User, action: audit.AuditAction, event: events.EventType, details: dict[str, Any]) -> None:
    audit.record(action, resource=("user", user.id), details=details)
    events.emit(event, schemas.person(user))
