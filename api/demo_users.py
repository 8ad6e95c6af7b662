"""Creates the demo users, and keeps them out of production."""

import structlog

from actors import audit
from actors.audit import AuditAction
from actors.jobs import transaction
from api.accounts import EmailTaken, NewAccount, create_verified
from api.security.passwords import Passwords
from api.settings import WebSettings
from db import postgres, sessions, users
from db.core.settings import InvalidSetting, is_loopback
from db.demo_users import DEMO_NAMES, DEMO_PASSWORD, active_demo_users, demo_email

log = structlog.get_logger(__name__)


def seed_demo_users(passwords: Passwords, *, app_env: str) -> None:
    """Creates the demo users that do not exist yet. Raises InvalidSetting in production."""
    if app_env == "production":
        raise InvalidSetting("APP_ENV: production has no demo users: their password is public")
    for role, name in DEMO_NAMES.items():
        account = NewAccount(email=demo_email(role), name=name, password=DEMO_PASSWORD)
        try:
            create_verified(passwords, account, role)
        except EmailTaken:
            log.debug("the demo user exists already", role=role)


def suspend_demo_users() -> None:
    """Suspends the demo users and ends their sessions, where a developer's database goes to production."""
    with postgres.connection():
        for user in active_demo_users():
            with transaction():
                users.change(user.id, active=False)
                sessions.end(user.id)
                details = {"fields": ["active"]}
                audit.record(AuditAction.USER_UPDATED, resource=("user", user.id), details=details)


def check(settings: WebSettings) -> None:
    """Raises InvalidSetting if demo users are active in production. Elsewhere warns if HOST is not local.

    Without a database the check is skipped, with a warning: the web process must start without one.
    """
    try:
        with postgres.connection():
            found = active_demo_users()
    except postgres.TRANSIENT_ERRORS as error:
        log.warning("cannot check for demo users: the database is down", error=str(error))
        return
    if found and settings.app_env == "production":
        raise InvalidSetting(
            "DATABASE_URL: the database has demo users, whose password is public:"
            " suspend them with `python -m api.cli suspend-demo-users`"
        )
    if found and not is_loopback(settings.host):
        log.warning("other machines can reach the demo users, whose password is public", host=settings.host)
