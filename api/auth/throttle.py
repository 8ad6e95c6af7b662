"""Throttles password checks of an account that keep failing, without ever locking the account for good.

An account has one count for all unknown clients together, and one for each known client. A client is known by
a refresh token of an earlier session, or by an address or network that has signed in to the account before.
So guesses from however many addresses slow down other guesses, and do not keep the owner out.
"""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from uuid import UUID

from actors import audit
from actors.audit import AuditAction
from actors.jobs import transaction
from db import sign_in_failures
from db.core import request_context, times
from db.core.errors import DomainError, ErrorCode
from db.one_time_tokens import fingerprint
from db.sign_in_failures import PasswordUse

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


class TooManyFailures(DomainError, code=ErrorCode.RATE_LIMITED):
    """Signing in to this account has failed too often. Wait a little and try again."""


@dataclass(frozen=True)
class Reservation:
    """The permission to check one password, counted as a failure until `succeeded` is called."""

    purpose: PasswordUse
    account: str
    client: str

    def succeeded(self) -> None:
        """Takes the failure back: a known client starts at zero, unknown clients have one failure less.

        The owner's sign-in from a new place must not give every guesser another FREE_FAILURES; that place is
        a known client from now on.
        """
        if self.client == UNKNOWN_CLIENTS:
            sign_in_failures.release(self.purpose, self.account, self.client)
        else:
            sign_in_failures.clear(self.purpose, self.account, self.client)


def reserve(purpose: PasswordUse, account: str, client: str) -> Reservation:
    """Counts a failure before the password is checked, so a parallel burst gets no more checks than a series.

    Raises TooManyFailures, which is audited and not counted as a failure.
    """
    now = times.now()
    counted = sign_in_failures.find(purpose, account, client)
    # Most requests of a burst are refused without waiting for the row's lock.
    if counted is None or counted.next_at <= now:
        if sign_in_failures.reserve(purpose, account, client, now):
            return Reservation(purpose, account, client)
        counted = sign_in_failures.find(purpose, account, client)
    with transaction():
        audit.record_sampled(_REFUSED[purpose], account)
    # The whole wait, not what is left of it: only a guesser gains by knowing the exact moment.
    wait_s = (counted.next_at - counted.failed_at).total_seconds() if counted else 0
    raise TooManyFailures(retry_after=max(1, int(wait_s)))


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
