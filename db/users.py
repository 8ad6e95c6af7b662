"""User accounts."""

from collections.abc import Collection
from enum import StrEnum
from typing import Any
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import pagination, personal_data, postgres, sessions


class Role(StrEnum):
    """What a person may be."""

    ADMIN = "ADMIN"
    VENDOR = "VENDOR"
    CUSTOMER = "CUSTOMER"


class User(postgres.Model):
    """A person who can sign in. Closed accounts stay, inactive."""

    id = peewee.UUIDField(primary_key=True)
    email = peewee.CharField(255)
    password_hash = peewee.CharField(255)
    name = peewee.CharField(255)
    role = peewee.CharField(50)
    email_verified = peewee.BooleanField()
    # Suspended where it is false: may be true again, unless the account is closed.
    active = peewee.BooleanField()
    closed_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()
    updated_at = DateTimeTZField()

    class Meta:
        schema = "auth"
        table_name = "users"


def add(*, email: str, password_hash: str, name: str, role: Role, **more: Any) -> User | None:
    """A new person; None when the address is taken, however it is capitalised."""
    insert = User.insert(email=email, password_hash=password_hash, name=name, role=role, **more)
    return next(iter(postgres.execute_returning(insert.on_conflict_ignore(), User)), None)


def get(id: UUID) -> User | None:
    """The person with this id."""
    return User.get_or_none(User.id == id)


def active_vendors(ids: Collection[UUID]) -> set[UUID]:
    """Those of these people who may be paid: vendors whose account is open."""
    if not ids:
        return set()
    found = User.select(User.id).where(User.id.in_(ids), User.active == True, User.role == Role.VENDOR)  # noqa: E712
    return {user.id for user in found}


def lock_vendor(id: UUID) -> bool:
    """Whether this person may be paid; if so, they remain a vendor to the end of the transaction."""
    query = User.select(User.id).where(User.id == id, User.active == True, User.role == Role.VENDOR)  # noqa: E712
    return query.for_update("FOR SHARE").first() is not None  # type: ignore[arg-type]


def by_email(email: str) -> User | None:
    """The person with this address, compared without case."""
    return User.get_or_none(peewee.fn.lower(User.email) == peewee.fn.lower(email.strip()))


def verified_owner(email: str) -> UUID | None:
    """The id of the user who has proved this address."""
    found = by_email(email)
    return found.id if found is not None and found.email_verified else None


def locked(id: UUID) -> User | None:
    """The same, the row locked to the end of the transaction: a password changed meanwhile is seen.

    It comes before every lock on a session, a token or a profile of this user (decision 20).
    """
    found: User | None = User.select().where(User.id == id).for_update(postgres.NO_KEY_UPDATE).first()
    return found


def set_password(id: UUID, password_hash: str) -> None:
    """Gives a person another password."""
    _change(id, password_hash=password_hash)


def verify_email(id: UUID) -> None:
    """Notes that the address is this person's."""
    _change(id, email_verified=True)


def change(id: UUID, **columns: Any) -> User | None:
    """Changes a person; None when the address is another's."""
    try:
        with postgres.database.atomic():
            if "email" in columns:
                personal_data.remember_address(id)
            _change(id, **columns)
    except peewee.IntegrityError:
        return None
    return User.get_by_id(id)


def locked_with_admins(id: UUID) -> tuple[User | None, list[UUID]]:
    """The user with this id, and the ids of the active administrators; all of these rows are locked.

    One statement locks them in the order of their ids. Of two administrators who demote one another at once,
    the second sees what the first has done.
    """
    admin = (User.role == Role.ADMIN) & (User.active == True)  # noqa: E712
    query = User.select().where((User.id == id) | admin).order_by(User.id)
    locked = list(query.for_update(postgres.NO_KEY_UPDATE))
    admins = [user.id for user in locked if user.role == Role.ADMIN and user.active]
    return next((user for user in locked if user.id == id), None), admins


def close(id: UUID, *, email: str, name: str) -> User:
    """Closes an account: nobody signs in, every token is dead, and nothing here is left of who it was."""
    personal_data.remember_address(id)
    sessions.end_all(id)
    postgres.rows("DELETE FROM auth.one_time_tokens WHERE user_id = %s", id)
    postgres.rows("DELETE FROM auth.known_addresses WHERE user_id = %s", id)
    postgres.rows("DELETE FROM profile.user_profiles WHERE user_id = %s", id)
    closed = {"password_hash": "closed", "email_verified": False, "active": False}
    _change(id, email=email, name=name, **closed, closed_at=peewee.fn.clock_timestamp())
    return User.get_by_id(id)


def page(
    *, role: str | None, q: str | None, active: bool | None, limit: int, after: pagination.Cursor | None
) -> pagination.Page[User]:
    """The newest people: with this role, whose address or name holds `q`, whose account is open."""
    holds = "%" + (q or "").replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    conditions = pagination.conditions(
        (role, User.role == role),
        (q, (User.email**holds) | (User.name**holds)),
        (active, User.active == active),
    )
    return pagination.newest_page(User, [User.select().where(*conditions)], limit=limit, after=after)


def _change(id: UUID, **columns: Any) -> None:
    columns["updated_at"] = peewee.fn.clock_timestamp()
    User.update(**columns).where(User.id == id).execute()
