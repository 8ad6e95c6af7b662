"""Slows down sign-ins to an account that keep failing, and never locks it for good.

Each account has one count for all strangers together, and one for each client that it knows: a client that
shows a refresh token of an earlier session, or asks from an address or a network that has signed in before.
So a guesser, from however many addresses, slows down the other guessers and not the owner.
"""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address, ip_network
from uuid import UUID

from api.security.tokens import fingerprint
from db import sessions, sign_in_failures
from db.core import request_context, times
from db.core.errors import DomainError, ErrorCode
from db.sign_in_failures import PasswordUse
from db.users import User

# So many failures in a row are human; each one more doubles the wait, up to the longest.
FREE_FAILURES = 5
LONGEST_WAIT_S = 60
_FORGOTTEN = timedelta(hours=1)

STRANGERS = "strangers"

# How much of an address names the client, and how much its network: (IPv4, IPv6) prefixes. A neighbour in the
# network counts apart from the address itself, so that it cannot keep that one out either.
_ADDRESS_BITS = (32, 64)
_NETWORK_BITS = (24, 56)


class TooManyFailures(DomainError):
    """Signing in to this account has failed too often: wait a little."""

    code = ErrorCode.RATE_LIMITED

    def __init__(self, wait_s: int) -> None:
        self.retry_after = wait_s
        super().__init__({"retryAfter": self.retry_after})


@dataclass(frozen=True)
class Slot:
    """One password that may be looked at, counted as a failure until it proves right."""

    purpose: PasswordUse
    account: str
    client: str

    def succeeded(self) -> None:
        """Takes the failure back: a known client starts anew, strangers only have this one less.

        The owner's sign-in from a new place must not give every guesser another round; that place is known
        from now on.
        """
        if self.client == STRANGERS:
            sign_in_failures.release(self.purpose, self.account, self.client)
        else:
            sign_in_failures.clear(self.purpose, self.account, self.client)


def reserve(purpose: PasswordUse, account: str, client: str) -> Slot:
    """Takes the right to look at one password, before it is looked at: a burst of guesses has no more of them
    than guesses one after the other. Raises TooManyFailures, which is not counted as a failure."""
    now = times.now()
    counted = sign_in_failures.find(purpose, account, client)
    # Most of a burst ends here, without waiting for the row's lock.
    if (counted is None or counted.next_at <= now) and sign_in_failures.reserve(
        purpose,
        account,
        client,
        now,
        free=FREE_FAILURES,
        longest_s=LONGEST_WAIT_S,
        count_since=now - _FORGOTTEN,
    ):
        return Slot(purpose, account, client)
    counted = counted or sign_in_failures.find(purpose, account, client)
    raise TooManyFailures(_wait_s(counted.failures if counted else FREE_FAILURES))


def client_of(user: User | None, refresh_token: str) -> str:
    """Whose count a sign-in is: the same questions are asked where nobody has the address."""
    id = user.id if user is not None else None
    session_id = sessions.earlier_session(fingerprint(refresh_token), id)
    known = sign_in_failures.known_addresses(id)
    if session_id is not None:
        return f"session {session_id}"
    if (address := here()) is None:
        return STRANGERS
    if address in known:
        return f"address {address}"
    network = _cut(address, _NETWORK_BITS)
    return f"network {network}" if network in {_cut(it, _NETWORK_BITS) for it in known} else STRANGERS


def know(user_id: UUID) -> None:
    """Remembers that the user is the client that asks, in the open transaction."""
    if (address := here()) is not None:
        sign_in_failures.remember_address(user_id, address)


def here() -> str | None:
    """The address by which an account knows the client that asks; None where there is none (Unix socket)."""
    address = request_context.current().ip_address
    return _cut(address, _ADDRESS_BITS) if address else None


def _cut(address: str, bits: tuple[int, int]) -> str:
    prefix = bits[ip_address(address).version == 6]
    return str(ip_network((address, prefix), strict=False).network_address)


def _wait_s(failures: int) -> int:
    """The whole wait after so many failures, in seconds, and not what is left of it: only a guesser gains by
    knowing the moment."""
    return min(LONGEST_WAIT_S, 1 << min(max(0, failures - FREE_FAILURES), 10))
