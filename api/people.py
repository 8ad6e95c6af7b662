"""Command line for accounts: `python -m api.people demo`, `… close-demo`, `… admin EMAIL`.

`admin` reads the password as one line from standard input.
"""

import argparse
import sys

from pydantic import ValidationError

from api import accounts, demo_users
from api.accounts import EmailTaken
from api.security.passwords import Passwords
from api.settings import WebSettings
from db import postgres
from db.core import logs
from db.core.settings import InvalidSetting
from db.core.startup import read_or_exit


def main(arguments: list[str]) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m api.people", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="create the demo users")
    commands.add_parser("close-demo", help="suspend the demo users")
    commands.add_parser("admin", help="create an administrator").add_argument("email")
    command = parser.parse_args(arguments)
    settings = read_or_exit(WebSettings)
    logs.configure(settings.log_level, settings.log_format)
    postgres.configure(settings.database_url, connections=2)
    passwords = Passwords(pepper=settings.password_pepper, rounds=settings.bcrypt_rounds)
    try:
        if command.command == "demo":
            demo_users.seed_demo_users(passwords, app_env=settings.app_env)
        elif command.command == "close-demo":
            demo_users.suspend_demo_users()
        else:
            password = sys.stdin.readline().rstrip("\r\n")
            accounts.create_admin(passwords, email=command.email, password=password)
    except ValidationError as error:
        sys.exit("; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors()))
    except (EmailTaken, InvalidSetting) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
