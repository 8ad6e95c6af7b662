"""Generated clients accept every body that the API accepts, and refuse invalid ones before they are sent.

The generators come from npm and PyPI into the user's cache folder. Without npm or a registry these tests are skipped,
except in CI.
"""

import json
import shutil
import sys
from pathlib import Path

import jsonschema_rs
import pytest

from tests.node import cached, once, project, run

PYTHON = ["openapi-python-client==0.29.1"]

VALID = """
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const api = createClient<paths>({ baseUrl: "http://127.0.0.1:3000" });
const key = { header: { "Idempotency-Key": "order-1", Prefer: "wait=5" } };

export async function everything(): Promise<string> {
  await api.POST("/api/auth/register", { body: { email: "a@b.example", password: "four boats", name: "A" } });
  await api.POST("/api/auth/register", {
    body: { email: "a@b.example", password: "four boats", name: "A", role: "VENDOR" },
  });
  await api.POST("/api/auth/logout", { body: {} });
  await api.POST("/api/auth/logout", { body: { everywhere: true } });
  await api.POST("/api/payments", { body: { type: "payment", amount: "12.50" } });
  await api.POST("/api/payments", { params: key, body: { type: "payment", amount: 12.5, currency: "EUR" } });
  await api.POST("/api/payments", {
    body: { type: "payment", amount: 1, description: null, metadata: { table: 4, nested: [{ a: null }] } },
  });
  await api.POST("/api/payments", { body: { type: "payment", requestId: "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e" } });
  await api.POST("/api/payments", {
    params: { header: { "If-Match": '"2"' } },
    body: { type: "payment", requestId: "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e", amount: "80.00", currency: "USD" },
  });
  await api.POST("/api/payments", { body: { type: "initiate", amount: 80, customerEmail: "a@b.example" } });
  await api.PUT("/api/payments/{paymentId}", {
    params: { path: { paymentId: "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e" } },
    body: { description: null },
  });
  await api.POST("/api/payments/{paymentId}/status", {
    params: { path: { paymentId: "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e" } },
    body: { status: "cancelled" },
  });
  await api.POST("/api/admin/users", { body: { email: "a@b.example", password: "four boats", name: "A" } });
  await api.PUT("/api/admin/config", { body: { "payments.maxAmount": "100.00" } });
  await api.PUT("/api/profile", { body: { bio: null } });
  await api.PUT("/api/profile/preferences", { body: { theme: "dark", mine: { a: 1 } } });
  const page = await api.GET("/api/payments", { params: { query: { status: "completed", limit: 5 } } });
  const payments: components["schemas"]["Payment"][] = page.data?.data.items ?? [];
  if (page.error?.error.code === "UNAUTHORIZED" && page.error.error.details.reason === "token_expired") {
    return String(page.error.error.details.retryAfter);
  }
  return payments.map((payment) => payment.amount + payment.currency + payment.allowedActions.join()).join();
}
"""

VALID_IN_PYTHON = """
import json
from typing import Any
from uuid import UUID

from client.models import (
    Currency, SignOut, NewPaymentOfRequest, NewPaymentOnItsOwn, NewPaymentOnItsOwnMetadata, NewPaymentRequest, StatusChange,
    NewUser, PaymentStatus, Registration, RegistrationRole,
)

REQUEST = UUID("019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e")
bodies: dict[str, list[Any]] = {
    "Registration": [
        Registration(email="a@b.example", password="four boats", name="A"),
        Registration(email="a@b.example", password="four boats", name="A", role=RegistrationRole.VENDOR),
    ],
    "SignOut": [SignOut(), SignOut(everywhere=True)],
    "NewPayment": [
        NewPaymentOnItsOwn(type_="payment", amount="12.50"),
        NewPaymentOnItsOwn(type_="payment", amount=12.5, currency=Currency.EUR, description="Lunch",
                           metadata=NewPaymentOnItsOwnMetadata.from_dict({"table": 4})),
        NewPaymentRequest(type_="initiate", amount="80.00", customer_email="a@b.example"),
        NewPaymentOfRequest(type_="payment", request_id=REQUEST),
        NewPaymentOfRequest(type_="payment", request_id=REQUEST, amount="80.00", currency=Currency.USD),
    ],
    "StatusChange": [StatusChange(status=PaymentStatus.CANCELLED), StatusChange(status=PaymentStatus.CANCELLED, reason="Ordered twice")],
    "NewUser": [NewUser(email="a@b.example", password="four boats", name="A")],
}
print(json.dumps({name: [body.to_dict() for body in some] for name, some in bodies.items()}))
"""

INVALID_IN_PYTHON = """
from client.models import SignOut, NewPaymentOnItsOwn, NewPaymentOfRequest, NewPaymentRequest, Registration

NewPaymentOnItsOwn(amount="12.50")  # type: ignore[call-arg]
NewPaymentOnItsOwn(type_="payment")  # type: ignore[call-arg]
NewPaymentOnItsOwn(type_="gift", amount="12.50")  # type: ignore[arg-type]
NewPaymentOnItsOwn(type_="payment", amount={"cents": 5})  # type: ignore[arg-type]
NewPaymentOnItsOwn(type_="payment", amount="1", currency="XXX")  # type: ignore[arg-type]
NewPaymentOnItsOwn(type_="payment", amount="1", customer_email="a@b.example")  # type: ignore[arg-type]
NewPaymentOfRequest(type_="payment", request_id=42)  # type: ignore[arg-type]
NewPaymentRequest(type_="initiate", amount="1", request_id="x")  # type: ignore[arg-type]
Registration(email="a@b.example", password="four boats")  # type: ignore[call-arg]
Registration(email="a@b.example", password="four boats", name="A", role="ADMIN")  # type: ignore[arg-type]
SignOut(everywhere="yes")  # type: ignore[arg-type]
"""

INVALID = {
    '/api/payments': [
        '{ amount: { cents: 5 } }',
        '{ amount: "12.50" }',
        '{ type: "payment" }',
        '{ type: "gift", amount: 1 }',
        '{ type: "payment", amount: true }',
        '{ type: "payment", amount: null }',
        '{ type: "payment", amount: { nonsense: true } }',
        '{ type: "payment", amount: 1, currency: "XXX" }',
        '{ type: "payment", amount: 1, customerEmail: "a@b.example" }',
        '{ type: "payment", amount: 1, colour: "red" }',
        '{ type: "payment", requestId: 42 }',
        '{ type: "initiate", requestId: "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e" }',
        '{ type: "initiate", amount: 1, metadata: [] }',
    ],
    '/api/auth/register': [
        '{ email: "a@b.example", password: "four boats" }',
        '{ email: "a@b.example", password: "four boats", name: "A", role: "ADMIN" }',
    ],
    '/api/auth/logout': ['{ everywhere: "yes" }'],
}  # fmt: skip


@pytest.fixture(scope="module")
def node(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = project(root, "tests/frontend", tmp_path_factory.mktemp("node"))
    shutil.copy(root / "docs/openapi.json", folder)
    return folder


@pytest.fixture(scope="module")
def python() -> Path:
    """A folder whose `venv` has the generator, with this interpreter."""
    uv = Path(sys.executable).with_name("uv")
    install: list[list[str | Path]] = [
        [uv, "venv", "--quiet", "--python", sys.executable, "venv"],
        [uv, "pip", "install", "--quiet", "--python", "venv/bin/python", *PYTHON],
    ]
    return cached("generators-python", "\n".join([sys.base_prefix, sys.version, *PYTHON]), install)


@pytest.fixture(scope="module")
def document(root: Path) -> Path:
    return root / "docs/openapi.json"


def test_redocly_finds_nothing(node):
    command = ["node_modules/.bin/redocly", "lint", "openapi.json", "--format=json"]
    lint = once(command, node, reads=["openapi.json"])
    found = json.loads(lint.stdout[lint.stdout.index("{") :])
    assert found["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, lint.stdout


def test_a_client_in_typescript_accepts_every_valid_body_and_no_other(node):
    command = ["node_modules/.bin/openapi-typescript", "openapi.json", "-o", "api.ts"]
    made = once(command, node, reads=["openapi.json"], makes="api.ts")
    assert made.returncode == 0, made.stderr
    bodies = [
        f'// @ts-expect-error: invalid\nawait api.POST("{path}", {{ body: {body} }});'
        for path, several in INVALID.items()
        for body in several
    ]
    head = VALID.partition("const key")[0]
    (node / "valid.ts").write_text(VALID)
    (node / "invalid.ts").write_text("\n".join([head, "export async function invalid() {", *bodies, "}"]))
    options = ["--strict", "--noEmit", "--skipLibCheck", "--target", "es2022", "--module", "nodenext"]
    written = ["api.ts", "valid.ts", "invalid.ts"]
    checked = once(["node_modules/.bin/tsc", *options, *written[1:]], node, reads=written)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_a_client_in_python_accepts_every_valid_body_and_no_other(root, python, document, tmp_path):
    # The last one names the version of the type checker.
    for file in (document, root / "requirements-dev.lock"):
        shutil.copy(file, tmp_path)
    config = tmp_path / "config.yml"
    # The responses that are neither JSON nor text.
    files = dict.fromkeys(["image/webp", "application/x-ndjson"], "application/octet-stream")
    config.write_text(json.dumps({"content_type_overrides": files, "post_hooks": []}))
    command = [str(python / "venv/bin/openapi-python-client"), "generate", "--path", "openapi.json"]
    command += ["--output-path", "client", "--overwrite", "--meta", "none", "--config", "config.yml"]
    made = once(
        [*command, "--fail-on-warning"], tmp_path, reads=["openapi.json", "config.yml"], makes="client"
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (tmp_path / "valid.py").write_text(VALID_IN_PYTHON)
    (tmp_path / "invalid.py").write_text(INVALID_IN_PYTHON)

    interpreter = str(python / "venv/bin/python")
    options = ["--strict", "--follow-imports=silent", "--python-executable", interpreter]
    options += ["--cache-dir", str(python / "mypy")]
    bodies_and_checker = ["client", "valid.py", "invalid.py", "requirements-dev.lock"]
    checked = once(
        [sys.executable, "-m", "mypy", *options, "valid.py", "invalid.py"], tmp_path, reads=bodies_and_checker
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr

    written = run([interpreter, "valid.py"], tmp_path)
    components = json.loads(document.read_text())["components"]
    for name, bodies in json.loads(written.stdout).items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": components}
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        assert not [body for body in bodies if not validator.is_valid(body)]
