"""The application on one page: the middleware in order, then every route. It opens no connection."""

from typing import Any

import falcon
from falcon.routing import CompiledRouter, map_http_methods

from actors.media import Media
from api import dev, forked
from api.admin import audit_logs, configuration, event_log, jobs
from api.admin.figures import Figures
from api.admin.health import InstallationHealth
from api.admin.users import Users
from api.auth.credentials import Credentials
from api.auth.sign_in import Sessions
from api.console import error_pages
from api.console.rendering import Templates
from api.console.routes import console_routes
from api.console.visits import Console
from api.events.feed import Feed
from api.events.resources import Events
from api.http import responses
from api.http.operation import declaration_of, route
from api.middleware.access_log import AccessLog
from api.middleware.authentication import Authentication
from api.middleware.body_limit import BodyLimit
from api.middleware.cors import Cors
from api.middleware.rate_limit import RateLimit
from api.middleware.request_context import BindRequestContext
from api.middleware.routing import CanonicalUuid, Routing
from api.middleware.security_headers import SecurityHeaders
from api.openapi.resources import Documents
from api.operations.health import Health
from api.operations.jwks import Jwks
from api.operations.metrics import Metrics
from api.payments import reports, resources, reviews, timeline
from api.profile.resources import OwnProfile
from api.security.hashing import HashPassword
from api.security.keys import Keys
from api.security.passwords import Passwords
from api.security.tokens import Tokens
from api.settings import WebSettings
from db import redis
from db.rate_counters import MemoryCounter, SharedCounter


def create_app(
    settings: WebSettings, *, preload_document: bool = False, hash_password: HashPassword | None = None
) -> falcon.App:  # type: ignore[type-arg]
    """Returns the WSGI application for these settings.

    With `preload_document` the OpenAPI document is built now, otherwise by the first request for it. Without
    `hash_password` the thread of a request computes bcrypt.
    """
    keys = Keys(settings.jwt_secret, settings.jwt_secret_other, ed25519=settings.jwt_ed25519)
    tokens = Tokens(
        keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        pepper=settings.password_pepper,
        session_max_age=settings.session_max_age,
    )
    passwords = Passwords(
        pepper=settings.password_pepper, rounds=settings.bcrypt_rounds, hash_password=hash_password
    )
    redis_client = redis.connect(settings.redis_url, timeout=redis.REQUEST_TIMEOUT_S)
    media = Media(settings)
    sessions, credentials = Sessions(passwords, tokens), Credentials(passwords)
    events = Events(Feed(redis_client), tokens)
    health = Health(redis_client)
    users = Users(passwords, tokens)
    figures, installation = Figures(redis_client), InstallationHealth(redis_client)
    profile = OwnProfile(media)

    templates = Templates()

    router = CompiledRouter()
    router.options.converters["uuid"] = CanonicalUuid
    counter = SharedCounter(redis_client, MemoryCounter())
    middleware: list[Any] = [
        # Requests pass from top to bottom, responses from bottom to top: the first one sees a response last.
        SecurityHeaders(),
        BindRequestContext(settings.trusted_proxies, spans=bool(settings.otel_exporter_otlp_endpoint)),
        AccessLog(router.find, tokens),
        Routing(),
        Cors(settings.cors_origins),
        RateLimit(settings.rate_limit_api, settings.rate_limit_auth, settings.rate_limit_console, counter),
        BodyLimit(),
        Authentication(tokens),
        error_pages.ErrorPages(templates),
    ]
    app = falcon.App(middleware=middleware, router=router)
    responses.install(app)
    error_pages.install(app)

    routes: dict[str, Any] = {
        "/api/auth/register": route(post=sessions.register),
        "/api/auth/login": route(post=sessions.login),
        "/api/auth/refresh": route(post=sessions.refresh),
        "/api/auth/logout": route(post=sessions.logout),
        "/api/auth/me": route(get=sessions.get_me),
        "/api/auth/password": route(put=credentials.change_password),
        "/api/auth/forgot-password": route(post=credentials.forgot_password),
        "/api/auth/reset-password": route(post=credentials.reset_password),
        "/api/auth/verify-email": route(get=credentials.verify_email, post=credentials.verify_email_by_post),
        "/api/auth/verify-email/resend": route(post=credentials.resend_verification),
        "/api/auth/sessions": route(get=sessions.list_sessions),
        "/api/auth/sessions/{session_id:uuid}": route(delete=sessions.end_session),
        "/api/admin/users": route(get=users.list_users, post=users.create_user),
        "/api/admin/users/{user_id:uuid}": route(
            get=users.get_user, put=users.update_user, delete=users.close_user
        ),
        "/api/admin/users/{user_id:uuid}/role": route(put=users.change_role),
        "/api/admin/users/{user_id:uuid}/sessions": route(
            get=users.list_user_sessions, delete=users.end_user_sessions
        ),
        "/api/admin/users/{user_id:uuid}/sessions/{session_id:uuid}": route(delete=users.end_user_session),
        "/api/admin/audit-logs": route(get=audit_logs.list_audit_logs),
        "/api/admin/audit-logs/verify": route(get=audit_logs.verify_audit_logs),
        "/api/admin/audit-logs/export": route(get=audit_logs.export_audit_logs),
        "/api/admin/audit-logs/{entry_id:uuid}": route(get=audit_logs.get_audit_log_entry),
        "/api/admin/jobs": route(get=jobs.list_jobs),
        "/api/admin/jobs/retry": route(post=jobs.retry_dead_jobs),
        "/api/admin/jobs/{job_id:uuid}": route(get=jobs.get_job, delete=jobs.drop_job),
        "/api/admin/jobs/{job_id:uuid}/retry": route(post=jobs.retry_job),
        "/api/admin/missed-events": route(get=event_log.list_missed_events),
        "/api/admin/missed-events/retry": route(post=event_log.retry_missed_events),
        "/api/admin/missed-events/{subscriber}/{seq}": route(delete=event_log.drop_missed_event),
        "/api/admin/missed-events/{subscriber}/{seq}/retry": route(post=event_log.retry_missed_event),
        "/api/admin/config": route(get=configuration.get_config, put=configuration.update_config),
        "/api/admin/events": route(get=event_log.list_events),
        "/api/admin/health": route(get=installation.get_admin_health),
        "/api/admin/invariants": route(get=installation.get_invariants, post=installation.check_invariants),
        "/api/admin/samples": route(get=figures.list_samples),
        "/api/admin/psp": route(get=figures.get_psp_status),
        "/api/admin/analytics": route(get=figures.get_analytics),
        "/api/events/stream": route(get=events.stream_events),
        "/api/events/ticket": route(post=events.create_event_ticket),
        "/api/payments": route(get=resources.list_payments, post=resources.create_payment),
        "/api/payments/history": route(get=resources.list_payment_transactions),
        "/api/payments/reports": route(get=reports.get_payment_report),
        "/api/payments/differences": route(get=reviews.list_statement_differences),
        "/api/payments/{payment_id:uuid}": route(
            get=resources.get_payment, put=resources.update_payment, delete=resources.cancel_payment
        ),
        "/api/payments/{payment_id:uuid}/timeline": route(get=timeline.get_payment_timeline),
        "/api/payments/{payment_id:uuid}/status": route(post=resources.change_payment_status),
        "/api/payments/{payment_id:uuid}/attempts": route(get=reviews.list_payment_attempts),
        "/api/payments/{payment_id:uuid}/review": route(post=reviews.resolve_payment_reviews),
        "/api/maintenance": route(get=health.get_maintenance),
        "/api/profile": route(get=profile.get_profile, put=profile.update_profile),
        "/api/profile/avatar": route(post=profile.upload_avatar, delete=profile.delete_avatar),
        "/api/profile/preferences": route(get=profile.get_preferences, put=profile.update_preferences),
        # From here on the responses have no envelope.
        "/health": health,
        "/api/health": health,
        "/.well-known/jwks.json": Jwks(keys),
        "/metrics": Metrics(redis_client),
        "/media/avatars/{name}": route(get=profile.get_avatar),
    }
    if settings.stack:
        routes |= dev.routes(settings.stack, settings.redis_url)
    documents = Documents(routes)
    # The document describes its own routes too, so it is written after they are added.
    routes |= {
        "/api/openapi.json": route(get=documents.get_open_api),
        "/api/asyncapi.json": route(get=documents.get_async_api),
        "/api/docs": route(get=documents.get_docs),
        "/api/docs/script.js": route(get=documents.get_docs_script),
    }
    if preload_document:
        # No request waits for it, all processes share its memory, and what building it takes is given back.
        documents.open_api = forked.compute(lambda: documents.open_api)
    console = Console(
        app,
        templates,
        public_url=settings.public_url,
        environment=settings.app_env,
        breakable=settings.stack is not None,
    )
    for path, resource in (routes | console_routes(console)).items():
        add_route(app, path, resource)
    return app


def add_route(app: falcon.App, path: str, resource: Any) -> None:  # type: ignore[type-arg]
    """Adds a resource whose every method declares an operation; HEAD is answered wherever GET is."""
    methods = map_http_methods(resource)
    undeclared = [name for name in methods if not declaration_of(resource, name)]
    if undeclared or not methods:
        raise TypeError(f"{path}: {', '.join(undeclared) or 'no method'} declares no operation")
    if "GET" in methods:
        resource.on_head = resource.on_get
    app.add_route(path, resource)
