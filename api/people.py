"""People made by a command: `python -m api.people demo`, `… close-demo`, `… admin EMAIL`.

The demo users are for a developer's machine; `close-demo` suspends them where its database goes to
production. The last one makes the first admin of an installation; the password is one line of standard input.
"""

import argparse
import sys

from pydantic import ValidationError

from actors import audit
from actors.jobs import transaction
from api import demo_users
from api.accounts import EmailTaken, NewAccount, open_account
from api.demo_users import DEMO, DEMO_PASSWORD
from api.security.passwords import Passwords
from api.settings import WebSettings
from db import postgres, sessions, users
from db.core import logs
from db.core.settings import read_or_exit
from db.users import Role


def demo(settings: WebSettings) -> None:
    """Makes the demo users that are not there yet."""
    if settings.app_env == "production":
        sys.exit("the demo users' password is public: there are none in production")
    for role, name in DEMO.items():
        account = NewAccount(email=demo_users.address(role), name=name, password=DEMO_PASSWORD)
        try:
            _open(settings, account, role)
        except EmailTaken:
            continue


def close_demo() -> None:
    """Suspends the demo users: nobody signs in as one, and their sessions end."""
    with postgres.connection():
        for user in demo_users.active():
            with transaction():
                users.change(user.id, active=False)
                sessions.end_all(user.id)
                audit.record(
                    audit.AuditAction.USER_UPDATED, resource=("user", user.id), details={"fields": ["active"]}
                )


def admin(settings: WebSettings, email: str) -> None:
    """Makes an admin."""
    try:
        account = NewAccount(email=email, name="Admin", password=sys.stdin.readline().rstrip("\r\n"))
        _open(settings, account, Role.ADMIN)
    except ValidationError as error:
        sys.exit("; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors()))
    except EmailTaken as taken:
        sys.exit(taken.message)


def _open(settings: WebSettings, account: NewAccount, role: Role) -> None:
    passwords = Passwords(pepper=settings.password_pepper, rounds=settings.bcrypt_rounds)
    hashed = passwords.hash(account.password)
    with postgres.connection(), transaction():
        open_account(
            email=account.email, password_hash=hashed, name=account.name, role=role, email_verified=True
        )


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m api.people", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="make the demo users")
    commands.add_parser("close-demo", help="suspend the demo users")
    commands.add_parser("admin", help="make an admin").add_argument("email")
    asked = parser.parse_args(arguments)
    settings = read_or_exit(WebSettings)
    logs.configure(settings.log_level, settings.log_format)
    postgres.configure(settings.database_url, connections=2)
    if asked.command == "demo":
        demo(settings)
    elif asked.command == "close-demo":
        close_demo()
    else:
        admin(settings, asked.email)


if __name__ == "__main__":
    main(sys.argv[1:])
