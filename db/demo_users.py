"""The demo users of a development stack, one of each role. Their password is public."""

from db import users
from db.users import Role, User

DEMO_PASSWORD = "Paywright-demo-1"
DEMO_NAMES = {Role.ADMIN: "Ada Admin", Role.VENDOR: "Vera Vendor", Role.CUSTOMER: "Carl Customer"}


def demo_email(role: Role) -> str:
    """Returns the address of the demo user with this role."""
    return f"{role.lower()}@example.com"


def active_demo_users() -> list[User]:
    """Returns the demo users of this database who can sign in."""
    found = [users.by_email(demo_email(role)) for role in DEMO_NAMES]
    return [user for user in found if user is not None and user.active]
