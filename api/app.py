"""The application on one page: every gate, every route. It opens nothing."""

from typing import Any

import falcon

from api.auth import resources as auth
from api.auth.credentials import Credentials
from api.auth.keyset import KeySet
from api.auth.sessions import Sessions
from api.gateway import envelope
from api.gateway.access_log import AccessLog
from api.gateway.body import Body
from api.gateway.caller import Callers
from api.gateway.connection import Connection
from api.gateway.cors import Cors
from api.gateway.headers import Headers
from api.gateway.ids import Canonical
from api.gateway.limits import Limits, Memory, Shared
from api.gateway.operation import declared, page_of
from api.gateway.options import Options
from api.gateway.path import Path
from api.gateway.request_id import RequestId
from api.health import Health
from api.keys import Keys
from api.openapi.resources import Docs, Document, OpenApi
from api.passwords import Passwords
from api.payments import operating
from api.payments import resources as payments
from api.payments.history import History
from api.payments.reports import Reports
from api.payments.status import OneStatus
from api.settings import Settings
from api.tokens import Tokens
from db import redis


def routes(sessions: Sessions, credentials: Credentials) -> dict[str, Any]:
    """Every address of the API, in the order of the documents."""
    return {
        "/api/auth/register": auth.Register(sessions),
        "/api/auth/login": auth.Login(sessions),
        "/api/auth/refresh": auth.Refresh(sessions),
        "/api/auth/logout": auth.Logout(sessions),
        "/api/auth/me": auth.Me(),
        "/api/auth/password": auth.Password(credentials),
        "/api/auth/forgot-password": auth.ForgotPassword(credentials),
        "/api/auth/reset-password": auth.ResetPassword(credentials),
        "/api/auth/verify-email": auth.VerifyEmail(credentials),
        "/api/auth/verify-email/resend": auth.ResendVerification(credentials),
        "/api/auth/sessions": auth.MySessions(sessions),
        "/api/auth/sessions/{session_id:uuid}": auth.OneSession(sessions),
        "/api/payments": payments.Payments(),
        "/api/payments/history": History(),
        "/api/payments/reports": Reports(),
        "/api/payments/differences": operating.Differences(),
        "/api/payments/{payment_id:uuid}": payments.OnePayment(),
        "/api/payments/{payment_id:uuid}/status": OneStatus(),
        "/api/payments/{payment_id:uuid}/attempts": operating.Attempts(),
        "/api/payments/{payment_id:uuid}/review": operating.Review(),
    }


def pages(health: Health, keys: KeySet) -> dict[str, Any]:
    """Every address that answers outside the envelope."""
    return {"/health": health, "/api/health": health, "/.well-known/jwks.json": keys}


def create_app(settings: Settings) -> falcon.App:  # type: ignore[type-arg]
    """The WSGI application for these settings."""
    keys = Keys(settings.jwt_secret, settings.jwt_secret_other, ed25519=settings.jwt_ed25519)
    tokens = Tokens(
        keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        pepper=settings.password_pepper,
    )
    passwords = Passwords(pepper=settings.password_pepper, rounds=settings.bcrypt_rounds)
    wire = redis.connect(settings.redis_url)
    health = Health(wire)

    gates: list[Any] = [
        # The way out is the way in backwards: who stands first here has the last word.
        Headers(),
        RequestId(settings.trusted_proxies),
        AccessLog(),
        Path(),
        Cors(settings.cors_origins),
        Limits(settings.rate_limit_api, settings.rate_limit_auth, Shared(wire, Memory())),
        Body(),
        Options(),
        Connection(),
        Callers(tokens),
    ]
    app = falcon.App(middleware=gates)
    app.router_options.converters["uuid"] = Canonical
    envelope.install(app)
    table = routes(Sessions(passwords, tokens), Credentials(passwords)) | pages(health, KeySet(keys))
    document = Document(table)
    table |= {"/api/openapi.json": OpenApi(document), "/api/docs": Docs(document)}
    for path, resource in table.items():
        _add(app, path, resource)
    return app


def _add(app: falcon.App, path: str, resource: Any) -> None:  # type: ignore[type-arg]
    """Adds a route whose every method says what it is; HEAD answers wherever GET does."""
    methods = [name for name in falcon.HTTP_METHODS if hasattr(resource, f"on_{name.lower()}")]
    silent = [name for name in methods if not (declared(resource, name) or page_of(resource, name))]
    if silent or not methods:
        raise TypeError(f"{path}: {', '.join(silent) or 'no method'} declares no operation, so has no policy")
    if "GET" in methods:
        resource.on_head = resource.on_get
    app.add_route(path, resource)
