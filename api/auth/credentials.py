"""Passwords and addresses: changing the one, proving the other."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from actors import audit, events, mail, request_addressees, snapshots
from actors.jobs import enqueue, transaction
from actors.mail import UserNotice
from api.auth import sign_in_failures
from api.auth.sign_in import InvalidCredentials
from api.http.body import ValidationFailed
from api.security.passwords import Passwords, weak
from api.security.permissions import Caller
from db import one_time_tokens, sessions, users
from db.core import times
from db.one_time_tokens import Purpose
from db.sign_in_failures import PasswordUse, clear_account
from db.users import User


@dataclass(frozen=True)
class Credentials:
    """Changes what a person is recognised by."""

    passwords: Passwords

    def change_password(self, caller: Caller, *, current: str, new: str) -> None:
        """Another password; this session goes on, every other ends. Raises InvalidCredentials, Invalid."""
        # Apart from sign-in, and for each session: nobody else's guesses keep the owner from changing it.
        session = f"session {caller.session_id}"
        account = str(caller.user_id)
        try:
            slot = sign_in_failures.reserve(PasswordUse.CHANGE_PASSWORD, account, session)
        except sign_in_failures.TooManyFailures:
            with transaction():
                action = audit.AuditAction.PASSWORD_CHANGE_REFUSED
                audit.record_sampled(action, account=account, user_id=caller.user_id)
            raise
        user = users.get(caller.user_id)
        if user is None or not self.passwords.match(current, user.password_hash):
            with transaction():
                audit.record(audit.AuditAction.SIGN_IN_FAILED, resource=("user", caller.user_id))
            raise InvalidCredentials
        hashed = self._hash(new, user, field="newPassword")
        with transaction():
            now = users.locked(user.id)
            if now is None or now.password_hash != user.password_hash:
                raise InvalidCredentials
            slot.succeeded()
            sessions.end_all(user.id, keep=caller.session_id)
            self._set(user, hashed, audit.AuditAction.PASSWORD_CHANGED)

    def forgot(self, email: str) -> None:
        """Mails a link, if there is somebody with this address; nobody can tell from here."""
        with transaction():
            # Asked for every address alike; it makes a difference only in the audit log.
            user = users.by_email(email)
            account = str(user.id) if user else self.passwords.pseudonym(email)
            user_id = user.id if user else None
            audit.record_sampled(audit.AuditAction.PASSWORD_RESET_REQUESTED, account=account, user_id=user_id)
            enqueue(mail.request_password_reset.job(email))

    def reset(self, *, token: str, new: str) -> None:
        """Another password, by a mailed link; every session ends. Raises Invalid."""
        user_id = one_time_tokens.find_user_id(token, Purpose.RESET_PASSWORD, times.now())
        user = users.get(user_id) if user_id else None
        if user is None or not user.active:
            raise _no_token()
        # A password that is refused leaves the link good.
        hashed = self._hash(new, user, field="newPassword")
        with transaction():
            # The person first and then the link, as everywhere: two links at once must not wait crosswise.
            owner = users.locked(user.id)
            if owner is None or not owner.active:
                raise _no_token()
            if one_time_tokens.consume(token, Purpose.RESET_PASSWORD, times.now()) is None:
                raise _no_token()
            sessions.end_all(user.id)
            # Who has the mailbox is the owner: from here on they are known, whoever else keeps guessing.
            clear_account(str(user.id))
            sign_in_failures.know(user.id)
            self._set(user, hashed, audit.AuditAction.PASSWORD_RESET)

    def verify_email(self, token: str) -> None:
        """Marks an address as verified by the token that was mailed to it; also again, as long as it is the
        account's. Raises Invalid."""
        link = one_time_tokens.find(token, Purpose.VERIFY_EMAIL)
        if link is None:
            raise _no_token()
        user_id = link.user_id
        with transaction():
            # The user first and then the link, as everywhere.
            user = users.locked(user_id)
            if user is None or not user.active:
                raise _no_token()
            if user.email_verified and one_time_tokens.was_mailed_to(link, user.email):
                # Again, perhaps after a mail scanner: what it is there for is done.
                return
            if one_time_tokens.consume(token, Purpose.VERIFY_EMAIL, times.now()) is None:
                raise _no_token()
            one_time_tokens.consume_all(user_id, Purpose.VERIFY_EMAIL, times.now())
            users.verify_email(user_id)
            request_addressees.proved(user)
            audit.record(audit.AuditAction.EMAIL_VERIFIED, resource=("user", user_id), user_id=user_id)

    def could_verify(self, token: str) -> None:
        """Raises Invalid when the link does not work; uses nothing up."""
        link = one_time_tokens.find(token, Purpose.VERIFY_EMAIL)
        user = users.get(link.user_id) if link else None
        done = (
            link
            and user
            and user.active
            and user.email_verified
            and one_time_tokens.was_mailed_to(link, user.email)
        )
        if not done and one_time_tokens.find_user_id(token, Purpose.VERIFY_EMAIL, times.now()) is None:
            raise _no_token()

    def resend(self, user_id: UUID) -> None:
        """Mails the link again, unless the address is proved already."""
        with transaction():
            audit.record_sampled(
                audit.AuditAction.VERIFICATION_REQUESTED, account=str(user_id), user_id=user_id
            )
            enqueue(mail.request_verification.job(user_id))

    def _hash(self, password: str, user: User, *, field: str) -> str:
        reason = weak(password, email=user.email, name=user.name)
        if reason:
            raise ValidationFailed({"fields": [{"field": field, "message": reason}]})
        return self.passwords.hash(password)

    def _set(self, user: User, hashed: str, action: audit.AuditAction) -> None:
        users.set_password(user.id, hashed)
        # Whoever asked for a link before, perhaps from a mailbox that is no longer safe, has none now.
        one_time_tokens.consume_all(user.id, Purpose.RESET_PASSWORD, times.now())
        audit.record(action, resource=("user", user.id), user_id=user.id)
        events.emit(events.EventType.PASSWORD_CHANGED, snapshots.user(user))
        enqueue(mail.notify_user.job(user.id, UserNotice.PASSWORD_CHANGED, uuid4()))


def _no_token() -> ValidationFailed:
    return ValidationFailed({"fields": [{"field": "token", "message": "is unknown, used or expired"}]})
