"""The application on one page: the middleware in order, then every route. It opens no connection."""

from typing import Any

import falcon
from falcon.routing import CompiledRouter

from actors.media import Media
from api.admin import jobs, missed_events, system
from api.admin.audit_export import AuditExport, OneAuditLogEntry
from api.admin.audit_logs import AuditLogs, AuditVerification
from api.admin.health import Health as AdminHealth
from api.admin.psp import Psp
from api.admin.samples import RecentSamples
from api.admin.users import OneUser, UserRole, Users, UserSession, UserSessions
from api.auth.resources import Auth
from api.auth.sign_in import Sessions
from api.console import errors as console_errors
from api.console import routes as console_routes
from api.console.rendering import Templates
from api.console.visits import Console
from api.dev import resources as dev
from api.events.feed import Feed
from api.events.resources import EventStream, EventTicket
from api.http import envelope
from api.http.operation import declaration_of, route
from api.middleware.access_log import AccessLog
from api.middleware.authentication import Authentication
from api.middleware.body_limit import BodyLimit
from api.middleware.cors import Cors
from api.middleware.database import DatabaseConnection
from api.middleware.maintenance import Maintenance
from api.middleware.rate_limit import RateLimit
from api.middleware.request_context import BindRequestContext
from api.middleware.routing import CanonicalUuid, Routing
from api.middleware.security_headers import SecurityHeaders
from api.middleware.spans import RequestSpans
from api.openapi.resources import AsyncApi, Docs, DocsScript, OpenApi
from api.operations.health import Health, MaintenanceState
from api.operations.jwks import Jwks
from api.operations.metrics import Metrics
from api.payments import resources as payments
from api.payments import reviews
from api.payments.reports import Reports
from api.payments.timeline import PaymentTimeline
from api.profile import resources as profile
from api.profile.avatar import Avatar, Avatars
from api.security.keys import Keys
from api.security.passwords import Compute, Passwords, compute_here
from api.security.tokens import Tokens
from api.settings import WebSettings
from db import redis
from db.rate_counters import MemoryCounter, SharedCounter


def create_app(
    settings: WebSettings, *, preload_document: bool = False, compute: Compute = compute_here
) -> falcon.App:  # type: ignore[type-arg]
    """Returns the WSGI application for these settings.

    `compute` runs what computes for long.

    With `preload_document` the OpenAPI document is built now, otherwise by the first request for it.
    """
    keys = Keys(settings.jwt_secret, settings.jwt_secret_other, ed25519=settings.jwt_ed25519)
    tokens = Tokens(
        keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        pepper=settings.password_pepper,
        session_max_age=settings.session_max_age,
    )
    passwords = Passwords(pepper=settings.password_pepper, rounds=settings.bcrypt_rounds, compute=compute)
    redis_client = redis.connect(settings.redis_url, timeout=redis.REQUEST_TIMEOUT_S)
    media = Media(settings)
    auth = Auth(Sessions(passwords, tokens))
    health = Health(redis_client)

    templates = Templates()

    router = CompiledRouter()
    router.options.converters["uuid"] = CanonicalUuid
    counter = SharedCounter(redis_client, MemoryCounter())
    middleware: list[Any] = [
        # Requests pass from top to bottom, responses from bottom to top: the first one sees a response last.
        SecurityHeaders(),
        BindRequestContext(settings.trusted_proxies),
        *([RequestSpans()] if settings.otel_exporter_otlp_endpoint else []),
        AccessLog(router.find, tokens),
        Routing(),
        Cors(settings.cors_origins),
        RateLimit(settings.rate_limit_api, settings.rate_limit_auth, settings.rate_limit_console, counter),
        BodyLimit(),
        DatabaseConnection(),
        Authentication(tokens),
        Maintenance(),
        console_errors.ErrorPages(templates),
    ]
    app = falcon.App(middleware=middleware, router=router)
    envelope.install(app)
    console_errors.install(app)

    routes: dict[str, Any] = {
        "/api/auth/register": route(post=auth.register),
        "/api/auth/login": route(post=auth.login),
        "/api/auth/refresh": route(post=auth.refresh),
        "/api/auth/logout": route(post=auth.logout),
        "/api/auth/me": route(get=auth.get_me),
        "/api/auth/password": route(put=auth.change_password),
        "/api/auth/forgot-password": route(post=auth.forgot_password),
        "/api/auth/reset-password": route(post=auth.reset_password),
        "/api/auth/verify-email": route(get=auth.verify_email, post=auth.verify_email_by_post),
        "/api/auth/verify-email/resend": route(post=auth.resend_verification),
        "/api/auth/sessions": route(get=auth.list_sessions),
        "/api/auth/sessions/{session_id:uuid}": route(delete=auth.end_session),
        "/api/admin/users": Users(passwords),
        "/api/admin/users/{user_id:uuid}": OneUser(),
        "/api/admin/users/{user_id:uuid}/role": UserRole(),
        "/api/admin/users/{user_id:uuid}/sessions": UserSessions(tokens),
        "/api/admin/users/{user_id:uuid}/sessions/{session_id:uuid}": UserSession(),
        "/api/admin/audit-logs": AuditLogs(),
        "/api/admin/audit-logs/verify": AuditVerification(),
        "/api/admin/audit-logs/export": AuditExport(),
        "/api/admin/audit-logs/{entry_id:uuid}": OneAuditLogEntry(),
        "/api/admin/jobs": jobs.Jobs(),
        "/api/admin/jobs/retry": jobs.DeadJobsRetry(),
        "/api/admin/jobs/{job_id:uuid}": jobs.OneJob(),
        "/api/admin/jobs/{job_id:uuid}/retry": jobs.JobRetry(),
        "/api/admin/missed-events": missed_events.MissedEvents(),
        "/api/admin/missed-events/retry": missed_events.MissedEventsRetry(),
        "/api/admin/missed-events/{subscriber}/{seq}": missed_events.OneMissedEvent(),
        "/api/admin/missed-events/{subscriber}/{seq}/retry": missed_events.MissedEventRetry(),
        "/api/admin/config": system.Config(),
        "/api/admin/events": system.EventLog(),
        "/api/admin/health": AdminHealth(redis_client),
        "/api/admin/invariants": system.Invariants(),
        "/api/admin/samples": RecentSamples(),
        "/api/admin/psp": Psp(),
        "/api/admin/analytics": system.Analytics(redis_client),
        "/api/events/stream": EventStream(Feed(redis_client), tokens),
        "/api/events/ticket": EventTicket(),
        "/api/payments": payments.Payments(),
        "/api/payments/history": payments.History(),
        "/api/payments/reports": Reports(),
        "/api/payments/differences": reviews.Differences(),
        "/api/payments/{payment_id:uuid}": payments.OnePayment(),
        "/api/payments/{payment_id:uuid}/timeline": PaymentTimeline(),
        "/api/payments/{payment_id:uuid}/status": payments.Status(),
        "/api/payments/{payment_id:uuid}/attempts": reviews.Attempts(),
        "/api/payments/{payment_id:uuid}/review": reviews.Review(),
        "/api/maintenance": MaintenanceState(),
        "/api/profile": profile.OwnProfile(media),
        "/api/profile/avatar": Avatar(media),
        "/api/profile/preferences": profile.OwnPreferences(),
        # From here on the responses have no envelope.
        "/health": health,
        "/api/health": health,
        "/.well-known/jwks.json": Jwks(keys),
        "/metrics": Metrics(redis_client),
        "/media/avatars/{name}": Avatars(media),
    }
    if settings.stack:
        routes |= dev.routes(settings.stack, settings.redis_url)
    openapi = OpenApi(routes)
    # The document describes its own routes too, so it is written after they are added.
    routes |= {
        "/api/openapi.json": openapi,
        "/api/asyncapi.json": AsyncApi(),
        "/api/docs": Docs(),
        "/api/docs/script.js": DocsScript(),
    }
    if preload_document:
        _ = openapi.json
    console = Console(
        app,
        templates,
        public_url=settings.public_url,
        environment=settings.app_env,
        breakable=settings.stack is not None,
    )
    for path, resource in (routes | console_routes.routes(console)).items():
        add_route(app, path, resource)
    return app


def add_route(app: falcon.App, path: str, resource: Any) -> None:  # type: ignore[type-arg]
    """Adds a resource whose every method declares an operation; HEAD is answered wherever GET is."""
    methods = [name for name in falcon.HTTP_METHODS if hasattr(resource, f"on_{name.lower()}")]
    undeclared = [name for name in methods if not declaration_of(resource, name)]
    if undeclared or not methods:
        raise TypeError(f"{path}: {', '.join(undeclared) or 'no method'} declares no operation")
    if "GET" in methods:
        resource.on_head = resource.on_get
    app.add_route(path, resource)
