"""Changes and resets passwords, verifies e-mail addresses."""

from uuid import uuid4

from actors import audit, events, mail, request_addressees, snapshots
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import enqueue, transaction
from actors.mail import UserNotice
from api.auth import throttle
from api.auth.schemas import PasswordChange, PasswordReset
from api.auth.sign_in import InvalidCredentials
from api.http.body import ValidationFailed
from api.security.passwords import Passwords, weakness
from api.security.permissions import Caller
from db import one_time_tokens, sessions, users
from db.core import times
from db.one_time_tokens import OneTimeToken, Purpose
from db.sign_in_failures import PasswordUse, clear_account
from db.users import User


def change_password(passwords: Passwords, caller: Caller, body: PasswordChange) -> None:
    """Replaces the caller's password and ends every other session.

    Raises InvalidCredentials, TooManyFailures, ValidationFailed.
    """
    # Failures count apart from sign-in, and per session: guesses of others cannot block the owner here.
    session = f"session {caller.session_id}"
    reservation = throttle.reserve(PasswordUse.CHANGE_PASSWORD, str(caller.user_id), session)
    user = users.get(caller.user_id)
    if user is None or not passwords.matches(body.current_password, user.password_hash):
        with transaction():
            audit.record(AuditAction.SIGN_IN_FAILED, resource=("user", caller.user_id))
        raise InvalidCredentials
    password_hash = _hash(passwords, body.new_password, user)
    with transaction():
        locked = users.locked(user.id)
        # Another change or a reset may have committed while bcrypt worked.
        if locked is None or locked.password_hash != user.password_hash:
            raise InvalidCredentials
        reservation.succeeded()
        sessions.end(user.id, keep=caller.session_id)
        _set_password(user, password_hash, AuditAction.PASSWORD_CHANGED)


def reset_password(passwords: Passwords, body: PasswordReset) -> None:
    """Sets a new password by a mailed token and ends every session. Raises ValidationFailed."""
    link = one_time_tokens.find(body.token, Purpose.RESET_PASSWORD)
    if link is None or not link.is_usable(times.now()):
        raise _bad_token()
    user = users.get(link.user_id)
    if user is None or not user.active:
        raise _bad_token()
    # A password that is refused does not use the token up.
    password_hash = _hash(passwords, body.new_password, user)
    with transaction():
        # Lock order (decision 20): first the user, then the token. Otherwise two resets could deadlock.
        locked = users.locked(user.id)
        if locked is None or not locked.active:
            raise _bad_token()
        if not one_time_tokens.consume(link.id, times.now()):
            raise _bad_token()
        sessions.end(user.id)
        # The mailbox proves ownership: this client gets a count of its own, whatever others guess.
        clear_account(str(user.id))
        throttle.remember_client(user.id)
        _set_password(user, password_hash, AuditAction.PASSWORD_RESET)


def verify_email(token: str) -> None:
    """Marks the address as verified to which the token was mailed. Raises ValidationFailed.

    Succeeds again with the same token as long as that address is the account's verified one.
    """
    link = one_time_tokens.find(token, Purpose.VERIFY_EMAIL)
    if link is None:
        raise _bad_token()
    with transaction():
        # Lock order (decision 20): first the user, then the token.
        user = users.locked(link.user_id)
        if user is None or not user.active:
            raise _bad_token()
        if _is_verified_by(link, user):
            # A mail scanner may have opened the link before the user did.
            return
        if not one_time_tokens.consume(link.id, times.now()):
            raise _bad_token()
        one_time_tokens.consume_all(user.id, Purpose.VERIFY_EMAIL, times.now())
        users.change(user.id, email_verified=True)
        request_addressees.bind_verified(user)
        audit.record(AuditAction.EMAIL_VERIFIED, resource=("user", user.id), user_id=user.id)


def check_verification_token(token: str) -> None:
    """Raises ValidationFailed when `verify_email` would; changes nothing."""
    link = one_time_tokens.find(token, Purpose.VERIFY_EMAIL)
    if link is None:
        raise _bad_token()
    user = users.get(link.user_id)
    is_verified = user is not None and user.active and _is_verified_by(link, user)
    if not is_verified and not link.is_usable(times.now()):
        raise _bad_token()


def _hash(passwords: Passwords, password: str, user: User) -> str:
    reason = weakness(password, email=user.email, name=user.name)
    if reason:
        raise ValidationFailed.of("newPassword", reason)
    return passwords.hash(password)


def _set_password(user: User, password_hash: str, action: AuditAction) -> None:
    users.change(user.id, password_hash=password_hash)
    # Reset links that are under way may lie in a mailbox that is no longer safe.
    one_time_tokens.consume_all(user.id, Purpose.RESET_PASSWORD, times.now())
    audit.record(action, resource=("user", user.id), user_id=user.id)
    events.emit(EventType.PASSWORD_CHANGED, snapshots.user(user))
    enqueue(mail.notify_user.job(user.id, UserNotice.PASSWORD_CHANGED, uuid4()))


def _is_verified_by(link: OneTimeToken, user: User) -> bool:
    return user.email_verified and link.was_mailed_to(user.email)


def _bad_token() -> ValidationFailed:
    return ValidationFailed.of("token", "is unknown, used or expired")
