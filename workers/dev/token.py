"""`make token`: prints an access token of a demo user, good for 15 minutes; AS=customer, vendor or admin."""

import sys

from workers.dev.client import Trouble, running
from workers.dev.stack import DEMO_USERS


def main(name: str) -> int:
    """Signs in by the session that was kept, so that asking often uses up no sign-in."""
    try:
        with running() as stack:
            email = next((user for user in DEMO_USERS if user.startswith(f"{name}@")), None)
            if email is None:
                raise Trouble(f"AS={name}: there is admin, vendor and customer")
            stack.door.health()
            sys.stdout.write(f"{stack.door.sign_in(email, stack.sessions)['accessToken']}\n")
    except (Trouble, OSError) as trouble:
        sys.stderr.write(f"{trouble}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ["customer"]))
