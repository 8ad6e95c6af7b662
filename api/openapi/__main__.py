"""`python -m api.openapi > docs/openapi.json`: the document as it is committed."""

import json
import sys

from falcon import testing

from api.app import create_app
from api.settings import WebSettings
from db.core import logs

# The document does not depend on them, and the application opens nothing.
_ANY = {"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://", "JWT_SECRET": "-", "PASSWORD_PEPPER": "-"}


def written() -> str:
    """What the application serves, laid out for people and for `git diff`."""
    served = testing.TestClient(create_app(WebSettings.read(_ANY))).simulate_get("/api/openapi.json")
    return json.dumps(served.json, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    logs.configure("CRITICAL")
    sys.stdout.write(written())
