"""The two APIs under load, with their users: what each call sends, and what its response must say."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx

from db.demo_users import DEMO_PASSWORD, demo_email
from db.users import Role
from tests.bench.load import CARRIED, UNIQUE, Load, LoadFailed, drive

PASSWORD = "Bench-Passw0rd-2026"
READERS, WRITERS, VENDORS, PAYMENTS_OF_A_READER, PAGE = 8, 8, 2, 40, 20
AMOUNT = "12.50"
PAYMENT = {"type": "payment", "amount": AMOUNT, "currency": "USD", "description": "bench"}
REQUEST = {"type": "initiate", "amount": AMOUNT, "currency": "USD", "description": "bench"}


@dataclass
class User:
    """A user of the API, and some payments of theirs."""

    email: str
    token: str = ""
    refresh_token: str = ""
    payments: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """A call to be sent many times: its requests, and a text that each response must have."""

    requests: Sequence[str]
    expected: str
    carried: Sequence[str] = ()


class Target:
    """An API that speaks the part of the contract that the peer has, too."""

    # What each POST of a payment must carry here.
    create_headers: dict[str, str] = {}

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=f"{url}/api", timeout=30, trust_env=False)
        self.readers: list[User] = []
        self.writers: list[User] = []

    def call(self, method: str, path: str, user: User | None = None, body: Any = None, **headers: str) -> Any:
        """Sends a request; returns the data of its response. Raises LoadFailed."""
        if user:
            headers["Authorization"] = f"Bearer {user.token}"
        response = self.http.request(method, path, json=body, headers=headers)
        if not response.is_success:
            raise LoadFailed(f"{method} {path}: {response.status_code} {response.text[:300]}")
        return response.json()["data"]

    def user(self, **more: str) -> User:
        """Registers a user."""
        user = User(f"bench-{secrets.token_hex(8)}@example.com")
        self.call(
            "POST",
            "/auth/register",
            body={"email": user.email, "password": PASSWORD, "name": "Bench User", **more},
        )
        self.sign_in(user)
        return user

    def sign_in(self, user: User, password: str = PASSWORD) -> None:
        """Signs the user in anew: an access token is valid for a quarter of an hour."""
        answer = self.call("POST", "/auth/login", body={"email": user.email, "password": password})
        user.token, user.refresh_token = answer["accessToken"], answer["refreshToken"]

    def prepare(self) -> None:
        """Makes the users and what they read; looks at one response of each call."""
        self.readers = [self.user() for _ in range(READERS)]
        self.writers = [self.user() for _ in range(WRITERS)]
        for user in self.readers:
            self.fill(user, PAYMENT)
        self.check()

    def fill(self, user: User, body: dict[str, str]) -> None:
        """Makes the payments that this user reads."""
        headers = {name: secrets.token_hex(9) for name in self.create_headers}
        made = [
            self.call(
                "POST",
                "/payments",
                user,
                {**body, "description": f"bench {n}"},
                **{name: f"{value}{n}" for name, value in headers.items()},
            )
            for n in range(PAYMENTS_OF_A_READER)
        ]
        user.payments = [payment["id"] for payment in made]

    def check(self) -> None:
        """Looks at the content of one response of each call: a fast wrong response must not count."""
        first, second = self.readers[:2]
        assert self.call("GET", "/auth/me", first)["email"] == first.email
        page = self.call("GET", f"/payments?limit={PAGE}", first)
        rows = page.get("items") or page["payments"]
        assert [row["id"] for row in rows] == first.payments[: -PAGE - 1 : -1], (
            "the list is not the newest first"
        )
        read = self.call("GET", f"/payments/{first.payments[0]}", first)
        assert (read["id"], Decimal(read["amount"])) == (first.payments[0], Decimal(AMOUNT))
        path = f"/payments/{first.payments[0]}"
        refused = self.http.get(path, headers={"Authorization": f"Bearer {second.token}"})
        assert refused.status_code in (403, 404), "a user could read another user's payment"

    def renew(self) -> None:
        """Signs everybody in again."""
        for user in (*self.readers, *self.writers):
            self.sign_in(user)

    def calls(self) -> dict[str, Call]:
        """Returns the calls that both APIs have, by name."""
        login = {"email": "", "password": PASSWORD}
        each = range(PAYMENTS_OF_A_READER)
        return {
            "health": Call([self.raw("GET", "/health")], '"status":"'),
            "me": self.reads("/auth/me", '"email":"bench-'),
            "get": Call(
                [
                    self.raw("GET", f"/api/payments/{user.payments[n]}", user)
                    for n in each
                    for user in self.readers
                ],
                '"description":"bench',
            ),
            "list": self.reads(f"/payments?limit={PAGE}", '"description":"bench'),
            "create": Call(
                [
                    self.raw("POST", "/api/payments", user, PAYMENT, self.create_headers)
                    for user in self.writers
                ],
                '"status":"pending"',
            ),
            "login": Call(
                [
                    self.raw("POST", "/api/auth/login", body={**login, "email": user.email})
                    for user in (*self.readers, *self.writers)
                ],
                '"accessToken":"',
            ),
        }

    def reads(self, path: str, expected: str, users: Sequence[User] = ()) -> Call:
        """Returns the call that reads this path as each of these users."""
        return Call([self.raw("GET", f"/api{path}", user) for user in users or self.readers], expected)

    def raw(
        self,
        method: str,
        path: str,
        user: User | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> str:
        """Returns the bytes of a request."""
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self.url.removeprefix('http://')}",
            "Accept: application/json",
        ]
        text = ""
        if user:
            lines.append(f"Authorization: Bearer {user.token}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            text = json.dumps(body)
            lines += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
        return "\r\n".join([*lines, "", text])

    def drive(self, call: Call, connections: int, seconds: float) -> Load:
        """Puts the call under load. Raises LoadFailed."""
        return drive(
            self.url,
            call.requests,
            expected=call.expected,
            carried=call.carried,
            connections=connections,
            seconds=seconds,
        )


class Ours(Target):
    """Paywright, with the calls that the peer does not have."""

    create_headers = {"Idempotency-Key": UNIQUE}

    def prepare(self) -> None:
        self.vendors = [self.user(role="VENDOR") for _ in range(VENDORS)]
        self.admin = User(demo_email(Role.ADMIN))
        for user in self.vendors:
            self.fill(user, REQUEST)
        super().prepare()

    def renew(self) -> None:
        super().renew()
        for user in self.vendors:
            self.sign_in(user)
        self.sign_in(self.admin, DEMO_PASSWORD)

    def calls(self) -> dict[str, Call]:
        users = (*self.readers, *self.writers)
        refresh = self.raw(
            "POST", "/api/auth/refresh", body={"refreshToken": "x" * len(users[0].refresh_token)}
        )
        return super().calls() | {
            "list of a vendor": self.reads(f"/payments?limit={PAGE}", '"type":"initiate"', self.vendors),
            "list of an admin": self.reads(f"/payments?limit={PAGE}", '"description":"bench', [self.admin]),
            "history": self.reads(f"/payments/history?limit={PAGE}", '"transactionType":"'),
            "refresh": Call(
                [refresh.replace("x" * len(users[0].refresh_token), CARRIED)],
                '"refreshToken":"',
                [user.refresh_token for user in users],
            ),
        }
