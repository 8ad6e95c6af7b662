"""Every page of the console, from its own list; and what the tests put into the system, to be shown there."""

import re
from collections.abc import Iterator
from typing import Any

from api.console.rendering import Templates
from api.console.routes import console_routes
from api.console.visits import Console
from db.demo_users import DEMO_PASSWORD, demo_email
from db.users import Role
from tests.flows.conftest import Stack
from tests.makers import until

PARAMETER = re.compile(r"\{(\w+)[^}]*\}")
# Pages that show something only with a query.
QUERIES = {"/verify-email": "?token=of-a-mail", "/reset-password": "?token=of-a-mail"}
# Amount, currency, description, what the provider does.
PAYMENTS = (
    ("12.50", "EUR", "Lunch at the harbour", "approve"),
    ("89.00", "USD", "Running shoes", "decline:insufficient_funds"),
    ("1499.90", "EUR", "A bicycle, blue, with a basket in front, a rack behind, and a bell that is heard", "slow"),
    ("3200", "JPY", "Tea from Uji", "duplicate"),
    ("34.90", "GBP", "Flowers", "blackout"),
    ("7.20", "CHF", "Coffee beans", "approve"),
)  # fmt: skip
# The one of them whose PSP never answers.
SILENT = 4
REQUESTS = (("80.00", "EUR", "Two chairs"), ("240.00", "EUR", "An oak table"), ("15.00", "USD", "A lamp"))


def walk() -> Iterator[tuple[str, str]]:
    """All pages, each once for every role that it is for; the role is empty for a visitor."""
    console = Console(
        lambda *_: [],
        Templates(),
        public_url="http://127.0.0.1:3000",
        environment="development",
        breakable=True,
    )
    console_routes(console)
    for page in console.pages:
        for role in page.roles or ("",):
            yield page.path, role


def screenshot_name(path: str, role: str) -> str | None:
    """The name of a page's picture; None for one that another role shows too. The last role sees the most."""
    name = PARAMETER.sub("one", path).removeprefix("/console").strip("/").replace("/", "-")
    if not name:
        return f"home-{role.lower()}"
    last = [other for shown, other in walk() if shown == path][-1]
    return name if role == last else None


class Shown:
    """Payments and requests of the demo users, in all states; examples for the parameters of paths."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._tokens = {role: self._sign_in(role) for role in Role}
        payments = [self._pay(*payment) for payment in PAYMENTS]
        paid, open_, cancelled = (self._request(*request) for request in REQUESTS)
        self._wait_for(open_, "initiated")
        payment = self.post(Role.CUSTOMER, "/payments", {"type": "payment", "requestId": paid})["id"]
        self.post(Role.VENDOR, f"/payments/{cancelled}/status", {"status": "cancelled", "reason": "Sold"})
        self._wait_for(paid, "completed")
        self._wait_for(payments[0], "completed")
        customer = self.get(Role.CUSTOMER, "/auth/me")["id"]
        self.examples = {"payment_id": payment, "request_id": open_, "user_id": customer}
        self.examples["job_id"] = self._dead_job()
        self._review(payments[SILENT])
        self._samples()
        # Paths whose parameter has another example.
        self.special = {"/console/reviews/{payment_id:uuid}": {"payment_id": payments[SILENT]}}

    def path(self, path: str) -> str:
        """A page's path with an example for each parameter."""
        examples = self.examples | self.special.get(path, {})
        missing = set(PARAMETER.findall(path)) - set(examples)
        assert not missing, f"add an example of {missing} to tests/browser/pages.py"
        return PARAMETER.sub(lambda match: examples[match[1]], path) + QUERIES.get(path, "")

    def get(self, role: Role, path: str) -> Any:
        """What the API shows a demo user."""
        response = self._stack.http.get(f"/api{path}", headers=self._tokens[role])
        return response.raise_for_status().json()["data"]

    def post(self, role: Role, path: str, body: dict[str, Any]) -> Any:
        """Sends a POST as a demo user."""
        response = self._stack.http.post(f"/api{path}", json=body, headers=self._tokens[role])
        return response.raise_for_status().json()["data"]

    def _sign_in(self, role: Role) -> dict[str, str]:
        body = {"email": demo_email(role), "password": DEMO_PASSWORD}
        response = self._stack.http.post("/api/auth/login", json=body).raise_for_status()
        return {"Authorization": f"Bearer {response.json()['data']['accessToken']}"}

    def _pay(self, amount: str, currency: str, description: str, simulate: str) -> str:
        body = {"amount": amount, "currency": currency, "description": description}
        metadata = {"simulate": simulate}
        made = self.post(Role.CUSTOMER, "/payments", {"type": "payment", **body, "metadata": metadata})
        return str(made["id"])

    def _request(self, amount: str, currency: str, description: str) -> str:
        body = {"amount": amount, "currency": currency, "description": description}
        address = {"customerEmail": demo_email(Role.CUSTOMER)}
        return str(self.post(Role.VENDOR, "/payments", {"type": "initiate", **body, **address})["id"])

    def _dead_job(self) -> str:
        [job] = self._stack.rows(
            "INSERT INTO journal.jobs (id, name, queue, args, attempts, due_at, error, dead_at) VALUES"
            " (gen_random_uuid(), 'mail.notify_user', 'mail', %s, 20, clock_timestamp(), %s, clock_timestamp())"
            " RETURNING id::text",
            '{"user_id": "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"}',
            "SMTPServerDisconnected: Connection unexpectedly closed",
        )
        return str(job["id"])

    def _review(self, payment: str) -> None:
        self._stack.rows(
            "INSERT INTO payments.payment_reviews (id, payment_id, cause, reason, opened_at) VALUES"
            " (gen_random_uuid(), %s, 'psp_silent', 'the PSP does not answer', clock_timestamp())"
            " RETURNING id",
            payment,
        )

    def _samples(self) -> None:
        """An hour with a morning's traffic, for the plots of the board."""
        self._stack.rows(
            "INSERT INTO admin.samples (at, counted, requests, errors, p95_ms, finished, settled, lag_ms)"
            " SELECT at, true, 15 * (60 + 40 * sin(n / 30.0) + 3 * mod(n, 7)), CASE WHEN mod(n, 61) = 0 THEN 2 ELSE 0 END,"
            " 22 + 9 * sin(n / 25.0) + mod(n, 5), '{}', 15 * (8 + 5 * sin(n / 30.0) + mod(n, 3)), 40 + 30 * sin(n / 20.0)"
            " FROM generate_series(1, 236) AS n, to_timestamp(floor(extract(epoch FROM now()) / 15) * 15 - 15 * n) AS at"
            " ON CONFLICT DO NOTHING RETURNING at"
        )

    def _wait_for(self, payment: str, status: str) -> None:
        until(lambda: self.get(Role.ADMIN, f"/payments/{payment}")["status"] == status)
