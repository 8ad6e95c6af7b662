"""People made by a command: `python -m api.people demo`, `… close-demo`, `… admin EMAIL`.

The demo users are for a developer's machine; `close-demo` suspends them where its database goes to
production. The last one makes the first admin of an installation; the password is one line of standard input.
"""

import argparse
import sys

from pydantic import ValidationError

from actors import audit, logs
from actors.verbs import transaction
from api import demo_users
from api.accounts import EmailTaken, NewAccount, open_account
from api.demo_users import DEMO, DEMO_PASSWORD
from api.passwords import Passwords
from api.settings import Settings
from db import auth, postgres
from db.auth import Role
from db.settings import or_exit


def demo(settings: Settings) -> None:
    """Makes the demo users that are not there yet."""
    if settings.app_env == "production":
        sys.exit("the demo users' password is public: there are none in production")
    for role, name in DEMO.items():
        wish = NewAccount(email=demo_users.address(role), name=name, password=DEMO_PASSWORD)
        try:
            _open(settings, wish, role)
        except EmailTaken:
            continue


def close_demo() -> None:
    """Suspends the demo users: nobody signs in as one, and their sessions end."""
    with postgres.connection():
        for user in demo_users.active():
            with transaction():
                auth.change(user.id, active=False)
                auth.end_sessions(user.id)
                audit.note(
                    audit.Action.USER_UPDATED, resource=("user", user.id), details={"fields": ["active"]}
                )


def admin(settings: Settings, email: str) -> None:
    """Makes an admin."""
    try:
        wish = NewAccount(email=email, name="Admin", password=sys.stdin.readline().rstrip("\r\n"))
        _open(settings, wish, Role.ADMIN)
    except ValidationError as error:
        sys.exit("; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors()))
    except EmailTaken as taken:
        sys.exit(taken.message)


def _open(settings: Settings, wish: NewAccount, role: Role) -> None:
    passwords = Passwords(pepper=settings.password_pepper, rounds=settings.bcrypt_rounds)
    hashed = passwords.hash(wish.password)
    with postgres.connection(), transaction():
        open_account(email=wish.email, password_hash=hashed, name=wish.name, role=role, email_verified=True)


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m api.people", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="make the demo users")
    commands.add_parser("close-demo", help="suspend the demo users")
    commands.add_parser("admin", help="make an admin").add_argument("email")
    asked = parser.parse_args(arguments)
    settings = or_exit(Settings)
    logs.open(settings.log_level)
    postgres.open(settings.database_url, connections=2)
    if asked.command == "demo":
        demo(settings)
    elif asked.command == "close-demo":
        close_demo()
    else:
        admin(settings, asked.email)


if __name__ == "__main__":
    main(sys.argv[1:])
