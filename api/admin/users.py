"""Accounts, as an administrator sees and changes them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from falcon import Request

from actors import addressees, audit, erasure, events, mail
from actors import payments as life
from actors.verbs import promise, transaction
from api import accounts
from api.accounts import EmailTaken
from api.admin import answers, shapes
from api.gateway.operation import operation
from api.passwords import Passwords
from api.policies import Permission
from api.shapes import listed
from db import auth, links, times
from db.auth import Role, User
from db.fault import Code, Fault, NotFound
from db.links import Purpose


class LastAdmin(Fault):
    """This is the last administrator: somebody must be able to make another."""

    code = Code.LAST_ADMIN


@dataclass
class Users:
    """GET, POST /admin/users"""

    passwords: Passwords

    @operation(Permission.OPERATE, "Users.", name="listUsers", asks=shapes.UsersQuery, gives=answers.People)
    def on_get(self, _req: Request, wish: shapes.UsersQuery) -> dict[str, Any]:
        """Everybody, closed accounts too, newest first; `q` is looked for in addresses and names."""
        page = auth.page(role=wish.role, q=wish.q, active=wish.active, limit=wish.limit, after=wish.place)
        return listed(page, shapes.person)

    @operation(
        Permission.OPERATE,
        "User created.",
        name="createUser",
        takes=shapes.NewUser,
        gives=answers.Person,
        refuses=(EmailTaken,),
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
    def on_post(self, _req: Request, wish: shapes.NewUser) -> dict[str, Any]:
        """Opens an account for somebody, with any role. Who is not verified gets the mail that asks them."""
        hashed = self.passwords.hash(wish.password)
        with transaction():
            user = accounts.add(
                email=wish.email,
                password_hash=hashed,
                name=wish.name,
                role=Role(wish.role),
                email_verified=wish.email_verified,
            )
            _tell(user, audit.Action.USER_CREATED, events.Type.ADMIN_USER_CREATED, {"role": user.role})
            if not user.email_verified:
                promise(mail.ask_to_verify.message(user.id))
        return shapes.person(user)


class OneUser:
    """GET, PUT, DELETE /admin/users/:id"""

    @operation(Permission.OPERATE, "User.", name="getUser", gives=answers.Person, one=True)
    def on_get(self, _req: Request, user_id: UUID) -> dict[str, Any]:
        """One person."""
        user = auth.user(user_id)
        if user is None:
            raise NotFound(thing="user")
        return shapes.person(user)

    @operation(
        Permission.OPERATE,
        "User changed.",
        name="updateUser",
        takes=shapes.UserChanges,
        gives=answers.Person,
        refuses=(EmailTaken, LastAdmin),
        examples={"name": {"name": "Robin Doe"}, "suspend": {"active": False}},
    )
    def on_put(self, _req: Request, user_id: UUID, wish: shapes.UserChanges) -> dict[str, Any]:
        """Changes the fields that are named. Another address is not verified, unless that is said too.

        `active: false` suspends the account: no sign-in, every token dead, a vendor's open requests are
        cancelled. `active: true` lets its owner sign in again.
        """
        changes = wish.named
        suspends = changes.get("active") is False
        with transaction():
            user, admins = _open(user_id)
            if suspends and admins == [user.id]:
                raise LastAdmin
            if changes.get("email", user.email).lower() != user.email.lower():
                changes.setdefault("email_verified", False)
                # What was mailed to the old address is good for nothing now.
                for purpose in Purpose:
                    links.use_all(user.id, purpose, times.now())
            changed = auth.change(user.id, **changes)
            if changed is None:
                raise EmailTaken
            if changed.email_verified and (not user.email_verified or user.email != changed.email):
                addressees.proved(changed)
            if suspends:
                auth.end_sessions(user.id)
                if user.role == Role.VENDOR:
                    life.withdraw(user.id)
            details = {"fields": sorted(wish.model_fields_set)}
            _tell(changed, audit.Action.USER_UPDATED, events.Type.ADMIN_USER_UPDATED, details)
            if user.email.lower() != changed.email.lower():
                promise(mail.tell_old_address.message(user.id, user.email, uuid4()))
            if user.email != changed.email and not changed.email_verified:
                promise(mail.ask_to_verify.message(user.id))
        return shapes.person(changed)

    @operation(
        Permission.OPERATE, "Account closed.", name="closeUser", gives=answers.Person, refuses=(LastAdmin,)
    )
    def on_delete(self, _req: Request, user_id: UUID) -> dict[str, Any]:
        """Closes an account: no sign-in, every token dead; a job erases the personal data wherever it stands.

        What was paid and what was done stays written down.
        """
        with transaction():
            user, admins = _open(user_id)
            if admins == [user.id]:
                raise LastAdmin
            closed = erasure.close(user)
            if user.role == Role.VENDOR:
                life.withdraw(user.id)
            _tell(closed, audit.Action.USER_CLOSED, events.Type.ADMIN_USER_DELETED, {})
        return shapes.person(closed)


class UserRole:
    """PUT /admin/users/:id/role"""

    @operation(
        Permission.OPERATE,
        "Role changed.",
        name="changeRole",
        takes=shapes.NewRole,
        gives=answers.Person,
        refuses=(LastAdmin,),
    )
    def on_put(self, _req: Request, user_id: UUID, wish: shapes.NewRole) -> dict[str, Any]:
        """Gives somebody another role: it counts at their next request."""
        with transaction():
            user, admins = _open(user_id)
            if admins == [user.id] and wish.role != Role.ADMIN:
                raise LastAdmin
            changed = auth.change(user.id, role=wish.role) or user
            if user.role == Role.VENDOR != changed.role:
                life.withdraw(user.id)
            details = {"from": user.role, "to": changed.role}
            _tell(changed, audit.Action.USER_ROLE_CHANGED, events.Type.ADMIN_USER_UPDATED, details)
        return shapes.person(changed)


def _open(user_id: UUID) -> tuple[User, list[UUID]]:
    """A user whose account is not closed, and the active administrators, all locked. Raises NotFound."""
    user, admins = auth.locked_with_admins(user_id)
    if user is None or user.closed_at is not None:
        raise NotFound(thing="open account")
    return user, admins


def _tell(user: User, action: audit.Action, event: events.Type, details: dict[str, Any]) -> None:
    audit.note(action, resource=("user", user.id), details=details)
    events.announce(event, shapes.person(user))
