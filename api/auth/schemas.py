"""What the auth routes take and give."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from api.accounts import NewAccount, Password
from api.http.fields import Email, Query, RequestBody, email
from db.users import Role

RefreshToken = Annotated[
    str, Field(min_length=1, max_length=512, examples=["k5Yz0hQm9vTnqk3cG4b1xq8yLw2mJt7sRd6fUe0aPZg"])
]
MailedToken = Annotated[str, Field(max_length=512, examples=["nS3vT8q0m1Kc7wZ5xJr2Lg9bYd4eHf6uPa0iXo_QEtk"])]
# Anything may be tried: what is no address or password belongs to nobody.
Tried = Annotated[str, Field(max_length=1024, examples=["Paywright-demo-1"])]


class Register(NewAccount):
    """A new account."""

    role: Literal["CUSTOMER", "VENDOR"] = Role.CUSTOMER.value


def _as_registered(value: str) -> str:
    try:
        return email(value)
    except PydanticCustomError:
        return value


class Login(RequestBody):
    """A sign-in."""

    email: Annotated[
        str, Field(max_length=1024, examples=["customer@example.com"]), AfterValidator(_as_registered)
    ]
    password: Tried


class Refresh(RequestBody):
    """A refresh token, to be spent."""

    refresh_token: RefreshToken


class Logout(RequestBody):
    """The end of this session, or of all."""

    refresh_token: RefreshToken | None = None
    everywhere: bool = False


class ChangePassword(RequestBody):
    """Another password, by who knows the current one."""

    current_password: Tried
    new_password: Password


class ForgotPassword(RequestBody):
    """Help for who has forgotten."""

    email: Email


class ResetPassword(RequestBody):
    """Another password, by who has the mailed link."""

    token: MailedToken
    new_password: Password


class VerifyEmailToken(RequestBody):
    """What the mailed link carries."""

    token: MailedToken


class VerifyEmail(Query):
    """What the mailed link carries."""

    token: MailedToken
