"""A client of the stack that `make run` has started in this checkout."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values

from db import rate_counters, redis
from db.demo_users import DEMO_PASSWORD, demo_email
from db.users import Role
from workers.dev import Failure

# The keys in Redis that count this machine's requests for the rate limits.
COUNTERS = f"{rate_counters.KEY_PREFIX}{{127.0.0.1}}:*"
NOT_RUNNING = "nothing is running here: start it with `make run` in another terminal"


class RunningStack:
    """The running stack. Every refusal of its API raises Failure."""

    def __init__(self, http: httpx.Client, redis_url: str) -> None:
        self.http, self.redis_url = http, redis_url

    def health(self) -> str:
        """Returns the state of the stack. Raises Failure if it is down, or if something else answers."""
        try:
            health = self.http.get("/health").json()
            status, services = str(health["status"]), dict(health["services"])
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            raise Failure(NOT_RUNNING) from None
        down = ", ".join(name for name, state in services.items() if state != "ok")
        if status == "down":
            raise Failure(f"the stack is running but cannot work: {down} down")
        return f"{status} ({down} down)" if down else status

    def sign_in(self, role: Role) -> dict[str, Any]:
        """Signs in the demo user with this role."""
        return self.call("POST", "/auth/login", body={"email": demo_email(role), "password": DEMO_PASSWORD})

    def next_version(self, payment: dict[str, Any], token: str) -> dict[str, Any]:
        """Waits some seconds for another version of a payment; returns the payment as it then is."""
        headers = {"If-None-Match": f'"{payment["version"]}"', "Prefer": "wait=5"}
        return self.call("GET", f"/payments/{payment['id']}", token, headers=headers) or payment

    def call(
        self, method: str, path: str, token: str = "", body: Any = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Sends a request; returns the data of the response, empty for a 304. Raises Failure."""
        self._reset_limits()
        headers = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        response = self.http.request(method, f"/api{path}", json=body, headers=headers)
        self._reset_limits()
        if response.status_code == 304:
            return {}
        answer = response.json()
        if not response.is_success:
            reason = "{code}: {message}".format_map(answer["error"])
            raise Failure(f"{method} /api{path}: {response.status_code} {reason}")
        return dict(answer["data"])

    def _reset_limits(self) -> None:
        """Resets the rate limits of this machine: a demo is not limited, and uses up no limit of a person."""
        with suppress(redis.Unreachable), redis.connect(self.redis_url) as client:
            for counter in client.scan_iter(COUNTERS):
                client.delete(counter)


def run(command: Callable[[RunningStack], None]) -> int:
    """Runs a command on the stack of this checkout; returns its exit status. A failure is one line."""
    data = Path({**dotenv_values(".env"), **os.environ}.get("DATA_DIR") or ".data")
    stack = {name: value or "" for name, value in dotenv_values(data / "stack.env").items()}
    try:
        # The environment's proxy does not lead to this machine.
        with httpx.Client(base_url=stack.get("BASE_URL", ""), timeout=10, trust_env=False) as http:
            command(RunningStack(http, stack.get("REDIS_URL", "")))
    except (Failure, httpx.HTTPError, OSError) as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
