"""The OpenAPI document as it is committed in docs/openapi.json."""

import json

from falcon import testing

from api.app import create_app
from api.settings import WebSettings

# The document does not depend on these, and the application opens no connection.
_ANY_SETTINGS = {
    "DATABASE_URL": "postgresql://",
    "REDIS_URL": "redis://",
    "JWT_SECRET": "-",
    "PASSWORD_PEPPER": "-",
}


def as_committed() -> str:
    """Returns what the application serves, indented for readers and for `git diff`."""
    client = testing.TestClient(create_app(WebSettings.read(_ANY_SETTINGS)))
    served = client.simulate_get("/api/openapi.json")
    return json.dumps(served.json, indent=2, ensure_ascii=False) + "\n"
