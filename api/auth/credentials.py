"""Changes and resets passwords, verifies e-mail addresses."""

from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import uuid4

from falcon import Request
from pydantic import Field

from actors import audit, events, mail, request_addressees, snapshots
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import enqueue, transaction
from actors.mail import UserNotice
from api.accounts import Password
from api.auth import throttle
from api.auth.sign_in import PasswordAttempt
from api.auth.throttle import InvalidCredentials, Reservation, TooManyFailures
from api.http.body import ValidationFailed
from api.http.fields import Email, Query, RequestBody
from api.http.operation import Operation
from api.middleware.authentication import caller_of, refuse_if_read_only
from api.security.passwords import Passwords, weakness
from api.security.permissions import Caller, Permission
from db import one_time_tokens, sessions, users
from db.core import times
from db.core.json_model import JsonModel
from db.one_time_tokens import OneTimeToken, Purpose
from db.sign_in_failures import PasswordUse, clear_account
from db.users import User

MailedToken = Annotated[str, Field(max_length=512, examples=["nS3vT8q0m1Kc7wZ5xJr2Lg9bYd4eHf6uPa0iXo_QEtk"])]


class PasswordChange(RequestBody):
    """The current password and the new one."""

    current_password: PasswordAttempt
    new_password: Password


class PasswordResetRequest(RequestBody):
    """The e-mail address of the account."""

    email: Email


class PasswordReset(RequestBody):
    """The token of the mailed link and the new password."""

    token: MailedToken
    new_password: Password


class VerificationToken(RequestBody):
    """The token of the mailed link."""

    token: MailedToken


class VerificationQuery(Query):
    """The token of the mailed link."""

    token: MailedToken


class EmailVerification(JsonModel):
    """The e-mail address is verified."""

    email_verified: Literal[True]


@dataclass(frozen=True)
class Credentials:
    """The routes of passwords and of the verification of addresses."""

    passwords: Passwords

    @Operation(
        Permission.SIGNED_IN,
        "Password changed.",
        # Not the demo users' password: pasting the example must not change it.
        examples={
            "passwords": {"currentPassword": "the password so far", "newPassword": "four boats on a lake"}
        },
        errors=(InvalidCredentials, TooManyFailures),
    )
    def change_password(self, req: Request, body: PasswordChange) -> None:
        """Change the password.

        This session goes on; every other session of the account ends.
        """
        caller = caller_of(req)
        # Failures count apart from sign-in, and per session: guesses of others cannot block the owner here.
        session = f"session {caller.session_id}"
        with throttle.password_check(
            PasswordUse.CHANGE_PASSWORD, str(caller.user_id), session
        ) as reservation:
            self._change_password(users.get(caller.user_id), body, caller, reservation)

    def _change_password(
        self, user: User | None, body: PasswordChange, caller: Caller, reservation: Reservation
    ) -> None:
        # The account may have been closed since the authentication.
        password_hash = user.password_hash if user and user.active else None
        if not self.passwords.matches(body.current_password, password_hash) or user is None:
            with transaction():
                audit.record(AuditAction.SIGN_IN_FAILED, resource=("user", caller.user_id))
            raise InvalidCredentials
        new_hash = _hash(self.passwords, body.new_password, user)
        with transaction():
            locked = users.locked(user.id)
            if locked and locked.active and locked.password_hash == user.password_hash:
                reservation.succeeded()
                sessions.end(user.id, keep=caller.session_id)
                _set_password(user, new_hash, AuditAction.PASSWORD_CHANGED)
                return
        # While bcrypt worked, another change or a closing has committed, or a sign-in has renewed the hash of
        # the same password: check it anew.
        self._change_password(locked, body, caller, reservation)

    @Operation(Permission.ANYONE, "If an account has this address, a mail with a link has been sent to it.")
    def forgot_password(self, _req: Request, body: PasswordResetRequest) -> None:
        """Request a password reset.

        Mails a one-time link that works for 30 minutes. The response is the same whether or not an account
        has the address.
        """
        with transaction():
            # The same statements for every address, so that the response time says nothing.
            user = users.by_email(body.email)
            account = str(user.id) if user else self.passwords.pseudonym(body.email)
            audit.record_sampled(AuditAction.PASSWORD_RESET_REQUESTED, account)
            enqueue(mail.request_password_reset.job(body.email))

    @Operation(Permission.ANYONE, "Password changed.")
    def reset_password(self, _req: Request, body: PasswordReset) -> None:
        """Reset the password.

        Takes the token of the mailed link, which works once. Every session of the account ends.
        """
        link = one_time_tokens.find(body.token, Purpose.RESET_PASSWORD)
        if link is None or not link.is_usable(times.now()):
            raise _bad_token()
        user = users.get(link.user_id)
        if user is None or not user.active:
            raise _bad_token()
        # A password that is refused does not use the token up.
        password_hash = _hash(self.passwords, body.new_password, user)
        with transaction():
            # Lock order (decision 20): first the user, then the token. Otherwise two resets could deadlock.
            locked = users.locked(user.id)
            if not (locked and locked.active and one_time_tokens.consume(link.id, times.now())):
                raise _bad_token()
            sessions.end(user.id)
            # The mailbox proves ownership: this client gets a count of its own, whatever others guess.
            clear_account(str(user.id))
            throttle.remember_client(user.id)
            _set_password(user, password_hash, AuditAction.PASSWORD_RESET)

    @Operation(Permission.ANYONE, "E-mail address verified.")
    def verify_email(self, req: Request, query: VerificationQuery) -> EmailVerification:
        """Verify an e-mail address by a link.

        Takes the token of the mailed link. The same token succeeds again as long as the address is the
        account's verified one. A HEAD request changes nothing.
        """
        if req.method == "HEAD":
            _check_verification_token(query.token)
        else:
            # The middleware lets every GET pass in maintenance; this is the only one that changes data.
            refuse_if_read_only()
            _verify_email(query.token)
        return EmailVerification(email_verified=True)

    @Operation(Permission.ANYONE, "E-mail address verified.")
    def verify_email_by_post(self, _req: Request, body: VerificationToken) -> EmailVerification:
        """Verify an e-mail address.

        Takes the token of the mailed link. The same token succeeds again as long as the address is the
        account's verified one. Mails link to a page whose button sends this request, so that a mail scanner
        which opens links verifies nothing.
        """
        _verify_email(body.token)
        return EmailVerification(email_verified=True)

    @Operation(
        Permission.SIGNED_IN, "Unless the address is verified, a mail with a link has been sent to it."
    )
    def resend_verification(self, req: Request) -> None:
        """Send the verification mail again."""
        user_id = caller_of(req).user_id
        with transaction():
            audit.record_sampled(AuditAction.VERIFICATION_REQUESTED, str(user_id))
            enqueue(mail.request_verification.job(user_id))


def _verify_email(token: str) -> None:
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
        one_time_tokens.keep(link.id)
        one_time_tokens.consume_all(user.id, Purpose.VERIFY_EMAIL, times.now())
        users.change(user.id, email_verified=True)
        request_addressees.bind_verified(user)
        audit.record(AuditAction.EMAIL_VERIFIED, resource=("user", user.id), user_id=user.id)


def _check_verification_token(token: str) -> None:
    """Raises ValidationFailed when `_verify_email` would; changes nothing."""
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
