"""Accounts: what a new one is made of, for whoever opens one: a person, an administrator, a command."""

from typing import Annotated, Any
from unicodedata import category

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from actors import audit, events, request_addressees, snapshots
from api.http.fields import Email, invalid
from api.http.requests import RequestBody
from api.http.text import Text
from api.security.passwords import weak
from db import users
from db.core.errors import DomainError, ErrorCode
from db.users import Role, User

# A joiner is part of a name in some scripts, and of many emoji.
_JOINERS = "\u200c\u200d"


def _name(value: str) -> str:
    if not value.strip():
        raise invalid("must not be blank")
    # Line ends, controls and marks that change the direction: a name is one line, in letters too.
    if any(category(sign) in ("Cc", "Cf", "Zl", "Zp") and sign not in _JOINERS for sign in value):
        raise invalid("must not hold control characters")
    return value


Name = Annotated[
    Text,
    Field(max_length=255, examples=["Robin Doe"], json_schema_extra={"pattern": r"\S"}),
    AfterValidator(_name),
]
# As it was typed: neither trimmed nor cut.
Password = Annotated[str, Field(min_length=8, max_length=128, examples=["four boats on a lake"])]


class NewAccount(RequestBody):
    """What every new account needs."""

    email: Email
    name: Name
    password: Password

    @field_validator("password")
    @classmethod
    def _not_weak(cls, password: str, info: ValidationInfo) -> str:
        reason = weak(password, email=info.data.get("email", ""), name=info.data.get("name", ""))
        if reason:
            raise invalid(reason)
        return password


class EmailTaken(DomainError):
    """There is an account with this e-mail address already."""

    code = ErrorCode.EMAIL_TAKEN


def add(*, email: str, password_hash: str, name: str, role: Role, **more: Any) -> User:
    """A new person, in the open transaction; nobody is told. Raises EmailTaken."""
    user = users.add(email=email, password_hash=password_hash, name=name, role=role, **more)
    if user is None:
        raise EmailTaken
    if user.email_verified:
        request_addressees.bind_verified(user)
    return user


def open_account(*, email: str, password_hash: str, name: str, role: Role, **more: Any) -> User:
    """A new person who came by themselves, in the open transaction. Raises EmailTaken."""
    user = add(email=email, password_hash=password_hash, name=name, role=role, **more)
    audit.record(
        audit.AuditAction.USER_REGISTERED, resource=("user", user.id), user_id=user.id, details={"role": role}
    )
    events.emit(events.EventType.USER_REGISTERED, snapshots.user(user))
    return user
