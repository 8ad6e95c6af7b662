"""`make token`: prints an access token of a demo user of the running stack, for curl."""

import sys

from db.users import Role
from workers.dev import Failure
from workers.dev.demo.running_stack import RunningStack, run


def main(name: str = "customer") -> int:
    """Prints a token of `customer`, `vendor` or `admin`, valid for 15 minutes."""

    def show(stack: RunningStack) -> None:
        stack.health()
        if name not in map(str.lower, Role):
            raise Failure(f"AS={name}: there is admin, vendor and customer")
        sys.stdout.write(stack.sign_in(Role(name.upper()))["accessToken"] + "\n")

    return run(show)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
