"""Throttles password checks of an account that keep failing, without ever locking the account for good.

An account has one count for all unknown clients together, and one for each known client. A client is known by
a refresh token of an earlier session, or by an address or network that has signed in to the account before.
So guesses from any number of addresses slow down other guesses, and do not keep the owner out.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address, ip_network
from threading import BoundedSemaphore
from uuid import UUID
from weakref import WeakValueDictionary

from actors import audit
from actors.audit import AuditAction
from actors.jobs import transaction
from api.http import admission
from db import postgres, sign_in_failures
from db.core import request_context, times
from db.core.errors import DomainError, ErrorCode
from db.one_time_tokens import fingerprint
from db.sign_in_failures import LastFailure, PasswordUse

_REFUSED = {
    PasswordUse.SIGN_IN: AuditAction.SIGN_IN_REFUSED,
    PasswordUse.CHANGE_PASSWORD: AuditAction.PASSWORD_CHANGE_REFUSED,
}

# The client name under which all unknown clients are counted together.
UNKNOWN_CLIENTS = "unknown"

# (IPv4, IPv6) prefix lengths that identify a client and its network. A neighbour in the same network has a
# count apart from the known address itself, so it cannot slow that address down.
_ADDRESS_BITS = (32, 64)
_NETWORK_BITS = (24, 56)


class InvalidCredentials(DomainError, code=ErrorCode.INVALID_CREDENTIALS):
    """The e-mail address or the password is wrong."""


class TooManyFailures(DomainError, code=ErrorCode.RATE_LIMITED):
    """Signing in to this account has failed too often. Wait a little and try again."""


# How long a check waits for its turn, in seconds. The hash itself may wait, too, and a proxy waits for 30 s.
_TURN_WAIT_S = 5.0
# A semaphore for each client whose password this process checks, removed when no request needs it any more.
_turns: WeakValueDictionary[tuple[str, ...], BoundedSemaphore] = WeakValueDictionary()


@dataclass(frozen=True)
class Reservation:
    """The permission to check one password, counted as a failure until `succeeded` is called."""

    purpose: PasswordUse
    account: str
    client: str
    reserved_at: datetime

    def succeeded(self) -> None:
        """Takes the failure back: a known client starts at zero, unknown clients have one failure less.

        The owner's sign-in from a new place must not give every guesser another FREE_FAILURES; that place is
        a known client from now on.
        """
        if self.client == UNKNOWN_CLIENTS:
            sign_in_failures.undo(self.purpose, self.account, self.client, self.reserved_at)
        else:
            sign_in_failures.clear(self.purpose, self.account, self.client)

    def failed(self) -> None:
        """Begins the wait after too many failures."""
        sign_in_failures.begin_wait(self.purpose, self.account, self.client, times.now())

    def undo(self) -> None:
        """Takes the failure and its wait back after an error that is not a wrong password."""
        # Without the database the failure stays counted: the error that ended the check is the one to report.
        with suppress(*postgres.TRANSIENT_ERRORS):
            sign_in_failures.undo(self.purpose, self.account, self.client, self.reserved_at)


@contextmanager
def password_check(purpose: PasswordUse, account: str, client: str) -> Iterator[Reservation]:
    """Counts a failure before the block checks a password, so a burst gets no more checks than a series.

    The checks of one client in this process take turns. Each counts as a failure until its password has
    proved right, but begins a wait only when the password has proved wrong: parallel sign-ins with the right
    password, here or in other processes, would otherwise be refused because of each other. The failure stays
    counted where the block raises InvalidCredentials, and is taken back after any other error. Raises
    TooManyFailures, which is audited and not counted as a failure, and Busy.
    """
    # Most requests of a burst of guesses are refused without waiting for a turn.
    counted = sign_in_failures.find(purpose, account, client)
    if counted and counted.must_wait(times.now()):
        raise _refusal(counted, purpose, account)
    turn = _turns.setdefault((purpose, account, client), BoundedSemaphore(1))
    with admission.slot(turn, wait=admission.waiting(_TURN_WAIT_S)):
        reserved_at = sign_in_failures.reserve(purpose, account, client, times.now())
        if reserved_at is None:
            raise _refusal(sign_in_failures.find(purpose, account, client), purpose, account)
        reservation = Reservation(purpose, account, client, reserved_at)
        try:
            yield reservation
        except InvalidCredentials:
            reservation.failed()
            raise
        except Exception:
            reservation.undo()
            raise


def _refusal(counted: LastFailure | None, purpose: PasswordUse, account: str) -> TooManyFailures:
    with transaction():
        audit.record_sampled(_REFUSED[purpose], account)
    # From the last failure, not from now: only a guesser gains by knowing when exactly the wait ends.
    wait_s = (counted.next_at - counted.failed_at).total_seconds() if counted else 0
    return TooManyFailures(retry_after=max(1, int(wait_s)))


def client_of(user_id: UUID | None, refresh_token: str) -> str:
    """Returns the client under which a sign-in is counted.

    Runs the same query where no account has the address, so that the response time says nothing.
    """
    session_id, known_addresses = sign_in_failures.known_clients(user_id, fingerprint(refresh_token))
    if session_id is not None:
        return f"session {session_id}"
    address = client_address()
    if address is None:
        return UNKNOWN_CLIENTS
    if address in known_addresses:
        return f"address {address}"
    network = _prefix(address, _NETWORK_BITS)
    known_networks = {_prefix(known, _NETWORK_BITS) for known in known_addresses}
    return f"network {network}" if network in known_networks else UNKNOWN_CLIENTS


def remember_client(user_id: UUID) -> None:
    """Records the address of the current request as known to the account, in the open transaction."""
    if (address := client_address()) is not None:
        sign_in_failures.remember_address(user_id, address)


def client_address() -> str | None:
    """Returns the address of the current request as accounts remember it; None over a Unix socket."""
    address = request_context.current().ip_address
    return _prefix(address, _ADDRESS_BITS) if address else None


def _prefix(address: str, bits: tuple[int, int]) -> str:
    length = bits[ip_address(address).version == 6]
    return str(ip_network((address, length), strict=False).network_address)
