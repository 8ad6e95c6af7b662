"""Request and response models of the auth routes."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from actors import snapshots
from api.accounts import NewAccount, Password
from api.http.fields import Email, Query, RequestBody, normalize_email
from db.core.json_model import JsonModel
from db.users import Role

RefreshToken = Annotated[
    str, Field(min_length=1, max_length=512, examples=["k5Yz0hQm9vTnqk3cG4b1xq8yLw2mJt7sRd6fUe0aPZg"])
]
OneTimeToken = Annotated[str, Field(max_length=512, examples=["nS3vT8q0m1Kc7wZ5xJr2Lg9bYd4eHf6uPa0iXo_QEtk"])]
# Any text may be tried: a refusal by format would say which passwords cannot exist.
PasswordAttempt = Annotated[str, Field(max_length=1024, examples=["Paywright-demo-1"])]


def _normalized_if_valid(value: str) -> str:
    try:
        return normalize_email(value)
    except PydanticCustomError:
        return value


class Registration(NewAccount):
    """The new account."""

    role: Literal["CUSTOMER", "VENDOR"] = Role.CUSTOMER.value


class SignIn(RequestBody):
    """The account's e-mail address and password."""

    # Text that is no address is looked up as it is, and answered as an unknown address.
    email: Annotated[
        str, Field(max_length=1024, examples=["customer@example.com"]), AfterValidator(_normalized_if_valid)
    ]
    password: PasswordAttempt


class TokenRefresh(RequestBody):
    """The refresh token to spend."""

    refresh_token: RefreshToken


class SignOut(RequestBody):
    """Ends the caller's session, and that of `refreshToken` if given; with `everywhere`, all of them."""

    refresh_token: RefreshToken | None = None
    everywhere: bool = False


class PasswordChange(RequestBody):
    """The current password and the new one."""

    current_password: PasswordAttempt
    new_password: Password


class PasswordResetRequest(RequestBody):
    """The e-mail address of the account."""

    email: Email


class PasswordReset(RequestBody):
    """The token of the mailed link and the new password."""

    token: OneTimeToken
    new_password: Password


class VerificationToken(RequestBody):
    """The token of the mailed link."""

    token: OneTimeToken


class VerificationQuery(Query):
    """The token of the mailed link."""

    token: OneTimeToken


class AuthResult(JsonModel):
    """The signed-in user and the tokens of the session. `expiresIn` is the access token's life in seconds."""

    user: snapshots.User
    access_token: Annotated[
        str, Field(examples=["eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiIwMTliIn0.c2lnbmF0dXJl"])
    ]
    refresh_token: Annotated[str, Field(examples=["k5Yz0hQm9vTnqk3cG4b1xq8yLw2mJt7sRd6fUe0aPZg"])]
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Field(examples=[900])]


class EmailVerification(JsonModel):
    """The e-mail address is verified."""

    email_verified: Literal[True]
