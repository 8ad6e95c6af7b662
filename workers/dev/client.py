"""The running stack as the demo and `make token` use it: where it is, and who signs in there."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values

from db import redis
from workers.dev import ready, state

# The rate limits' counts of this machine in Redis (api/middleware/rate_limit.py, which is not to be imported here).
COUNTED = "paywright:limit:{127.0.0.1}:*"
NOTHING = "nothing is running here: start it with `make run` in another terminal"


class Trouble(Exception):
    """Why the story cannot go on, in one line."""


class Door:
    """The REST API; whatever it refuses is Trouble."""

    def __init__(self, http: httpx.Client, redis_client: str = "") -> None:
        self.http, self.redis_client = http, redis_client

    def health(self) -> str:
        """How the stack is. Raises Trouble when there is none, or none that can work."""
        try:
            health = self.http.get("/health").json()
            down = ", ".join(name for name, how in health["services"].items() if how != "ok")
            status = str(health["status"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError, AttributeError):
            raise Trouble(NOTHING) from None
        if status == "down":
            raise Trouble(f"the stack is running but not well: {down} down")
        return f"{status} ({down} down)" if down else status

    def sign_in(self, email: str, sessions: Path) -> dict[str, Any]:
        """By the last run's refresh token, as sign-ins are few; by password when that is refused."""
        tokens = _tokens(sessions)
        answer = None
        if email in tokens:
            answer = self._send("POST", "/auth/refresh", {"refreshToken": tokens[email]})
        if answer is None or answer.status_code == 401:
            answer = self._send("POST", "/auth/login", {"email": email, "password": ready.DEMO_PASSWORD})
        signed_in = _data(answer)
        # The demo's own sign-ins must not use up those of whoever tries the API by hand.
        self._forgive()
        state.write(sessions, json.dumps(tokens | {email: signed_in["refreshToken"]}))
        return signed_in

    def ask(self, method: str, path: str, token: str, body: Any = None) -> dict[str, Any]:
        """What is answered to the bearer of this token."""
        return _data(self._send(method, path, body, {"Authorization": f"Bearer {token}"}))

    def _send(self, method: str, path: str, body: Any, headers: Any = None) -> httpx.Response:
        try:
            answer = self.http.request(method, f"/api{path}", json=body, headers=headers)
            if answer.status_code == 429 and self._forgive():
                answer = self.http.request(method, f"/api{path}", json=body, headers=headers)
            return answer
        except httpx.HTTPError as error:
            raise Trouble(f"{method} /api{path}: no answer: {error}") from None

    def _forgive(self) -> bool:
        """Forgets what was counted against this machine, where there was something: a demo that runs twenty
        times in a row is no attack, and who can read stack.env may do it."""
        try:
            with redis.connect(self.redis_client) as client:
                counted = list(client.scan_iter(COUNTED))
                return bool(counted and client.delete(*counted))
        except (redis.Unreachable, ValueError):
            return False


@dataclass(frozen=True)
class Running:
    """A running stack."""

    door: Door
    base_url: str
    database_url: str
    redis_url: str
    # Refresh tokens by e-mail address.
    sessions: Path


@contextmanager
def running() -> Iterator[Running]:
    """The stack that `make run` has started in this checkout. Raises Trouble where there is none."""
    data = Path({**dotenv_values(".env"), **os.environ}.get("DATA_DIR") or ".data")
    stack = dotenv_values(data / "stack.env")
    base, database, redis_client = (stack.get(name) for name in ("BASE_URL", "DATABASE_URL", "REDIS_URL"))
    if not (base and database and redis_client):
        raise Trouble(NOTHING)
    # The environment's proxy does not lead to this machine.
    with httpx.Client(base_url=base, timeout=10, trust_env=False) as http:
        yield Running(Door(http, redis_client), base, database, redis_client, data / "demo-sessions.json")


def _tokens(path: Path) -> dict[str, str]:
    """Refresh tokens by e-mail; what cannot be read counts as forgotten."""
    try:
        return {str(email): str(token) for email, token in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _data(answer: httpx.Response) -> dict[str, Any]:
    """What was answered. Raises Trouble with the refusal."""
    try:
        body = answer.json()
        if answer.is_success:
            return dict(body["data"])
        error = f"{body['error']['code']}: {body['error']['message']}"
    except (ValueError, LookupError, TypeError):
        error = "and no answer of ours"
    raise Trouble(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {error}")
