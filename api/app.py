"""The application on one page: every gate, every route. It opens nothing."""

from typing import Any

import falcon
from falcon.routing import CompiledRouter

from actors.media import Media
from api.admin.analytics import Analytics
from api.admin.audit_logs import AuditLogs, AuditVerification
from api.admin.config import Config
from api.admin.event_log import EventLog
from api.admin.health import AdminHealth, Invariants
from api.admin.users import OneUser, UserRole, Users, UserSession, UserSessions
from api.auth import resources as auth
from api.auth.credentials import Credentials
from api.auth.mailed_links import MailedLinkScript, ResetPasswordPage, VerifyEmailPage
from api.auth.sign_in import Sessions
from api.http import envelope
from api.http.operation import declaration_of
from api.middleware.access_log import AccessLog
from api.middleware.authentication import Callers
from api.middleware.body_limit import BodyLimit
from api.middleware.cors import Cors
from api.middleware.database import Connection
from api.middleware.ids import Canonical
from api.middleware.maintenance import Maintenance
from api.middleware.options import Options
from api.middleware.path import Path
from api.middleware.rate_limit import Limits, Memory, Shared
from api.middleware.request_context import RequestId
from api.middleware.security_headers import Headers
from api.openapi.resources import Docs, Document, OpenApi
from api.operations.health import Health
from api.operations.jwks import KeySet
from api.operations.metrics import Metrics
from api.payments import resources as payments
from api.payments import reviews
from api.payments.reports import Reports
from api.profile import resources as profile
from api.profile.avatar import Avatar, Avatars
from api.security.keys import Keys
from api.security.passwords import Passwords
from api.security.tokens import Tokens
from api.settings import WebSettings
from db import redis


def routes(passwords: Passwords, tokens: Tokens, redis_client: redis.Client, media: Media) -> dict[str, Any]:
    """Every address of the API, in the order of the documents."""
    sessions, credentials = Sessions(passwords, tokens), Credentials(passwords)
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
        "/api/admin/users": Users(passwords),
        "/api/admin/users/{user_id:uuid}": OneUser(),
        "/api/admin/users/{user_id:uuid}/role": UserRole(),
        "/api/admin/users/{user_id:uuid}/sessions": UserSessions(tokens),
        "/api/admin/users/{user_id:uuid}/sessions/{session_id:uuid}": UserSession(),
        "/api/admin/audit-logs": AuditLogs(),
        "/api/admin/audit-logs/verify": AuditVerification(),
        "/api/admin/config": Config(),
        "/api/admin/events": EventLog(),
        "/api/admin/health": AdminHealth(redis_client),
        "/api/admin/invariants": Invariants(),
        "/api/admin/analytics": Analytics(redis_client),
        "/api/payments": payments.Payments(),
        "/api/payments/history": payments.History(),
        "/api/payments/reports": Reports(),
        "/api/payments/differences": reviews.Differences(),
        "/api/payments/{payment_id:uuid}": payments.OnePayment(),
        "/api/payments/{payment_id:uuid}/status": payments.Status(),
        "/api/payments/{payment_id:uuid}/attempts": reviews.Attempts(),
        "/api/payments/{payment_id:uuid}/review": reviews.Review(),
        "/api/profile": profile.Profile(media),
        "/api/profile/avatar": Avatar(media),
        "/api/profile/preferences": profile.Preferences(),
    }


def pages(keys: Keys, redis_client: redis.Client, media: Media) -> dict[str, Any]:
    """Every address that answers outside the envelope."""
    health = Health(redis_client)
    return {
        "/health": health,
        "/api/health": health,
        "/.well-known/jwks.json": KeySet(keys),
        "/metrics": Metrics(redis_client),
        "/media/avatars/{name}": Avatars(media),
        "/verify-email": VerifyEmailPage(),
        "/reset-password": ResetPasswordPage(),
        "/mailed-link.js": MailedLinkScript(),
    }


def create_app(settings: WebSettings, *, draw: bool = False) -> falcon.App:  # type: ignore[type-arg]
    """The WSGI application for these settings; `draw` draws its document now and not at the first request."""
    keys = Keys(settings.jwt_secret, settings.jwt_secret_other, ed25519=settings.jwt_ed25519)
    tokens = Tokens(
        keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        pepper=settings.password_pepper,
        session_max_age=settings.session_max_age,
    )
    passwords = Passwords(pepper=settings.password_pepper, rounds=settings.bcrypt_rounds)
    redis_client = redis.connect(settings.redis_url, timeout=redis.REQUEST_TIMEOUT_S)
    media = Media(settings)

    router = CompiledRouter()
    router.options.converters["uuid"] = Canonical
    gates: list[Any] = [
        # The way out is the way in backwards: who stands first here has the last word.
        Headers(),
        RequestId(settings.trusted_proxies),
        AccessLog(router.find, tokens),
        Path(),
        Cors(settings.cors_origins),
        Limits(settings.rate_limit_api, settings.rate_limit_auth, Shared(redis_client, Memory())),
        BodyLimit(),
        Options(),
        Connection(),
        Callers(tokens),
        Maintenance(),
    ]
    app = falcon.App(middleware=gates, router=router)
    envelope.install(app)
    table = routes(passwords, tokens, redis_client, media) | pages(keys, redis_client, media)
    document = Document(table)
    if draw:
        document.write()
    table |= {"/api/openapi.json": OpenApi(document), "/api/docs": Docs(document)}
    for path, resource in table.items():
        _add(app, path, resource)
    return app


def _add(app: falcon.App, path: str, resource: Any) -> None:  # type: ignore[type-arg]
    """Adds a route whose every method says what it is; HEAD answers wherever GET does."""
    methods = [name for name in falcon.HTTP_METHODS if hasattr(resource, f"on_{name.lower()}")]
    silent = [name for name in methods if not declaration_of(resource, name)]
    if silent or not methods:
        raise TypeError(f"{path}: {', '.join(silent) or 'no method'} declares no operation, so has no policy")
    if "GET" in methods:
        resource.on_head = resource.on_get
    app.add_route(path, resource)
