"""New accounts, which several services and commands create."""

import re
from typing import Annotated
from unicodedata import category, normalize

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from actors import audit, events, request_addressees, snapshots
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import transaction
from api.http.fields import Email, RequestBody, invalid
from api.http.text import Text
from api.security.passwords import Passwords, weakness
from db import postgres, users
from db.core.errors import DomainError, ErrorCode
from db.users import Role, User

# Invisible, but part of names in some scripts and of many emoji.
_JOINERS = "\u200c\u200d"
# The flags of regions, such as Scotland: a black flag, invisible characters, an end. Elsewhere such ones
# would be a text that nobody sees.
_REGIONAL_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")


def _name(value: str) -> str:
    if not value.strip():
        raise invalid("must not be blank")
    # A name is put into mail headers and on one line of a page: no line ends, controls, direction marks.
    plain = _REGIONAL_FLAG.sub("", value)
    if any(category(char) in ("Cc", "Cf", "Zl", "Zp") and char not in _JOINERS for char in plain):
        raise invalid("must not hold control characters")
    return value


Name = Annotated[
    Text,
    Field(max_length=255, examples=["Robin Doe"], json_schema_extra={"pattern": r"\S"}),
    AfterValidator(_name),
]
_MAX_PASSWORD_LENGTH = 128
# NFC makes at most four code points one character. To compose a text of any length would take long.
_MAX_COMPOSED_LENGTH = 4 * _MAX_PASSWORD_LENGTH


def _composed(value: object) -> object:
    """Returns the password in NFC, as it is hashed: keyboards send `é` as one code point or two."""
    if isinstance(value, str) and len(value) <= _MAX_COMPOSED_LENGTH:
        return normalize("NFC", value)
    return value


# Neither trimmed nor shortened.
Password = Annotated[
    str,
    Field(min_length=8, max_length=_MAX_PASSWORD_LENGTH, examples=["four boats on a lake"]),
    # Runs first. After it, pydantic would call the characters "items" in its message.
    BeforeValidator(_composed),
]


class NewAccount(RequestBody):
    """The fields of every new account."""

    email: Email
    name: Name
    password: Password

    @field_validator("password")
    @classmethod
    def _not_weak(cls, password: str, info: ValidationInfo) -> str:
        reason = weakness(password, email=info.data.get("email", ""), name=info.data.get("name", ""))
        if reason:
            raise invalid(reason)
        return password


class EmailTaken(DomainError, code=ErrorCode.EMAIL_TAKEN):
    """An account with this e-mail address exists already."""


def add(account: NewAccount, role: Role, password_hash: str, *, email_verified: bool = False) -> User:
    """Adds a user in the open transaction, without audit row or event. Raises EmailTaken."""
    user = users.add(
        email=account.email,
        password_hash=password_hash,
        name=account.name,
        role=role,
        email_verified=email_verified,
    )
    if user is None:
        raise EmailTaken
    if user.email_verified:
        request_addressees.bind_verified(user)
    return user


def register(account: NewAccount, role: Role, password_hash: str, *, email_verified: bool = False) -> User:
    """Adds a user in the open transaction, audits and announces the registration. Raises EmailTaken."""
    user = add(account, role, password_hash, email_verified=email_verified)
    resource, details = ("user", user.id), {"role": role}
    audit.record(AuditAction.USER_REGISTERED, resource=resource, user_id=user.id, details=details)
    events.emit(EventType.USER_REGISTERED, snapshots.user(user))
    return user


def create_verified(passwords: Passwords, account: NewAccount, role: Role) -> User:
    """Registers an account whose address needs no verification, in a transaction of its own.

    Raises EmailTaken.
    """
    # bcrypt works outside the transaction.
    password_hash = passwords.hash(account.password)
    with postgres.connection(), transaction():
        return register(account, role, password_hash, email_verified=True)
