"""The application on one page: every gate, every route. It opens nothing."""

from typing import Any

import falcon

from api.auth import resources as auth
from api.auth.sessions import Sessions
from api.gateway import envelope
from api.gateway.access_log import AccessLog
from api.gateway.body import Body
from api.gateway.caller import Callers
from api.gateway.connection import Connection
from api.gateway.operation import declared
from api.gateway.request_id import RequestId
from api.health import Health
from api.passwords import Passwords
from api.payments import resources as payments
from api.settings import Settings
from api.tokens import Tokens
from db import redis


def routes(sessions: Sessions) -> dict[str, Any]:
    """Every address of the API, in the order of the documents."""
    return {
        "/api/auth/register": auth.Register(sessions),
        "/api/auth/login": auth.Login(sessions),
        "/api/auth/refresh": auth.Refresh(sessions),
        "/api/auth/logout": auth.Logout(sessions),
        "/api/auth/me": auth.Me(),
        "/api/payments": payments.Payments(),
        "/api/payments/{payment_id:uuid}": payments.OnePayment(),
    }


def create_app(settings: Settings) -> falcon.App:  # type: ignore[type-arg]
    """The WSGI application for these settings."""
    tokens = Tokens(settings.jwt_secret)
    passwords = Passwords(pepper=settings.password_pepper, rounds=settings.bcrypt_rounds)
    health = Health(redis.connect(settings.redis_url))

    gates: list[Any] = [RequestId(), AccessLog(), Body(), Connection(), Callers(tokens)]
    app = falcon.App(middleware=gates)
    envelope.install(app)
    for path in ("/health", "/api/health"):
        app.add_route(path, health)
    for path, resource in routes(Sessions(passwords, tokens)).items():
        _add(app, path, resource)
    return app


def _add(app: falcon.App, path: str, resource: Any) -> None:  # type: ignore[type-arg]
    """Adds a route whose every method says what it is; HEAD answers wherever GET does."""
    methods = [name for name in falcon.HTTP_METHODS if hasattr(resource, f"on_{name.lower()}")]
    silent = [method for method in methods if declared(resource, method) is None]
    if silent or not methods:
        raise TypeError(f"{path}: {', '.join(silent) or 'no method'} declares no operation, so has no policy")
    if "GET" in methods:
        resource.on_head = resource.on_get
    app.add_route(path, resource)
