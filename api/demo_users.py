"""The demo users: for a developer's machine, as their password is public."""

import ipaddress

import structlog

from api.settings import WebSettings
from db import postgres, users
from db.core.settings import InvalidSetting
from db.users import Role, User

log = structlog.get_logger(__name__)

DEMO_PASSWORD = "Paywright-demo-1"
DEMO = {Role.ADMIN: "Ada Admin", Role.VENDOR: "Vera Vendor", Role.CUSTOMER: "Carl Customer"}


def address(role: Role) -> str:
    """Under which a demo user of this role signs in."""
    return f"{role.lower()}@example.com"


def active() -> list[User]:
    """The demo users that can sign in."""
    found = [users.by_email(address(role)) for role in DEMO]
    return [user for user in found if user is not None and user.active]


def check(settings: WebSettings) -> None:
    """Looks for demo users at the start of web: raises WrongSetting in production, and warns where other
    machines may reach them. With the database away it is only said that nobody has looked."""
    try:
        with postgres.connection():
            found = active()
    except postgres.TRANSIENT_ERRORS as error:
        log.warning("the database is away, nobody has looked for demo users", error=str(error))
        return
    if found and settings.app_env == "production":
        raise InvalidSetting(
            "wrong setting: DATABASE_URL: it has demo users, whose password is public:"
            " `python -m api.people close-demo` suspends them"
        )
    if found and not _local(settings.host):
        log.warning(
            "demo users, whose password is public, can be reached from other machines", host=settings.host
        )


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
