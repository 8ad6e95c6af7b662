"""A client of the stack that `make run` has started. `make token` prints an access token."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values

from db import postgres, rate_counters, redis
from workers.dev.stack import DEMO_PASSWORD, DEMO_USERS

# The keys in Redis that count this machine's requests for the rate limits.
COUNTERS = f"{rate_counters.KEY_PREFIX}{{127.0.0.1}}:*"
NOT_RUNNING = "nothing is running here: start it with `make run` in another terminal"


class CommandFailed(Exception):
    """The command cannot go on; the message is one line."""


class RunningStack:
    """The running stack. Every refusal of its API raises CommandFailed."""

    def __init__(self, http: httpx.Client, redis_url: str, database_url: str = "") -> None:
        self.http, self.redis_url, self.database_url = http, redis_url, database_url

    def health(self) -> str:
        """Returns the state of the stack. Raises CommandFailed if it is down."""
        try:
            health = self.http.get("/health").json()
            down = ", ".join(name for name, state in health["services"].items() if state != "ok")
            status = str(health["status"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError, AttributeError):
            raise CommandFailed(NOT_RUNNING) from None
        if status == "down":
            raise CommandFailed(f"the stack is running but cannot work: {down} down")
        return f"{status} ({down} down)" if down else status

    def sign_in(self, email: str) -> dict[str, Any]:
        """Signs in a demo user, and resets the rate limits, so that the sign-in counts against nobody."""
        signed_in = self.call("POST", "/auth/login", body={"email": email, "password": DEMO_PASSWORD})
        self._reset_limits()
        return signed_in

    def next_version(self, payment: dict[str, Any], token: str) -> dict[str, Any]:
        """Waits some seconds for another version of a payment; returns the payment as it then is."""
        headers = {"If-None-Match": f'"{payment["version"]}"', "Prefer": "wait=5"}
        return self.call("GET", f"/payments/{payment['id']}", token, headers=headers) or payment

    def call(
        self, method: str, path: str, token: str = "", body: Any = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Sends a request; returns the data of the response, empty for a 304. Raises CommandFailed."""
        headers = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        try:
            response = self.http.request(method, f"/api{path}", json=body, headers=headers)
            if response.status_code == 429 and self._reset_limits():
                response = self.http.request(method, f"/api{path}", json=body, headers=headers)
            if response.status_code == 304:
                return {}
            answer = response.json()
            if response.is_success:
                return dict(answer["data"])
            error = f"{response.status_code} {answer['error']['code']}: {answer['error']['message']}"
        except httpx.HTTPError as failure:
            error = f"no response: {failure}"
        except (ValueError, LookupError, TypeError):
            error = f"{response.status_code} is not a response of Paywright"
        raise CommandFailed(f"{method} /api{path}: {error}")

    def _reset_limits(self) -> bool:
        """Resets the rate limits of this machine; returns whether there were any counts.

        A demo that runs twenty times in a row must not be limited.
        """
        try:
            with redis.connect(self.redis_url) as client:
                counters = list(client.scan_iter(COUNTERS))
                return bool(counters and client.delete(*counters))
        except (redis.Unreachable, ValueError):
            return False


@contextmanager
def running() -> Iterator[RunningStack]:
    """Yields the stack that runs in this checkout. Raises CommandFailed if none does."""
    data = Path({**dotenv_values(".env"), **os.environ}.get("DATA_DIR") or ".data")
    values = dotenv_values(data / "stack.env")
    base, database, redis_url = (values.get(name) for name in ("BASE_URL", "DATABASE_URL", "REDIS_URL"))
    if not (base and database and redis_url):
        raise CommandFailed(NOT_RUNNING)
    # The environment's proxy does not lead to this machine.
    with httpx.Client(base_url=base, timeout=10, trust_env=False) as http:
        yield RunningStack(http, redis_url, database)


def run(command: Callable[[RunningStack], None]) -> int:
    """Runs a command on the running stack; returns its exit status. A failure is one line."""
    try:
        with running() as stack:
            command(stack)
    except (CommandFailed, OSError, *postgres.TRANSIENT_ERRORS) as trouble:
        sys.stderr.write(" ".join(str(trouble).split()) + "\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def main(name: str) -> int:
    """Prints an access token of `customer`, `vendor` or `admin`, valid for 15 minutes."""

    def show(stack: RunningStack) -> None:
        stack.health()
        if f"{name}@example.com" not in DEMO_USERS:
            raise CommandFailed(f"AS={name}: there is admin, vendor and customer")
        sys.stdout.write(stack.sign_in(f"{name}@example.com")["accessToken"] + "\n")

    return run(show)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ["customer"]))
