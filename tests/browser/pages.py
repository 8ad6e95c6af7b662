"""Every page of the console, from its own list; and what the tests put into the system, to be shown there."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from api.console import routes
from api.console.rendering import Templates
from api.console.visits import Console
from api.demo_users import DEMO_PASSWORD, demo_email
from db.core import times
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
REQUESTS = (("80.00", "EUR", "Two chairs"), ("240.00", "EUR", "An oak table"), ("15.00", "USD", "A lamp"))


def walk() -> Iterator[tuple[str, str]]:
    """All pages, each once for every role that it is for; the role is empty for a visitor."""
    console = Console(lambda *_: [], Templates(), secure=False, environment="development")
    routes.routes(console)
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
        self.examples = {
            "payment_id": payment,
            "request_id": open_,
            "user_id": customer,
            "job_id": self._waiting_job(),
        }

    def path(self, path: str) -> str:
        """A page's path with an example for each parameter."""
        missing = set(PARAMETER.findall(path)) - set(self.examples)
        assert not missing, f"add an example of {missing} to tests/browser/pages.py"
        return PARAMETER.sub(lambda match: self.examples[match[1]], path) + QUERIES.get(path, "")

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

    def _waiting_job(self) -> str:
        """A job that is due in a quarter of an hour: the mails that anybody can ask for are spaced."""
        for _ in range(3):
            body = {"email": demo_email(Role.CUSTOMER)}
            self._stack.http.post("/api/auth/forgot-password", json=body).raise_for_status()
        path, soon = "/admin/jobs?name=mail.send_link", times.iso(times.now() + timedelta(minutes=5))
        jobs = until(lambda: [job for job in self.get(Role.ADMIN, path)["items"] if job["dueAt"] > soon])
        return str(jobs[0]["id"])

    def _wait_for(self, payment: str, status: str) -> None:
        until(lambda: self.get(Role.ADMIN, f"/payments/{payment}")["status"] == status)
