"""What the auth routes take."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from api.shapes import Email, Shape, wrong
from db.auth import Role


def _no_blank(value: str) -> str:
    if not value.strip():
        raise wrong("must not be blank")
    return value.strip()


Name = Annotated[str, Field(max_length=255), AfterValidator(_no_blank)]
# As it was typed: neither trimmed nor cut.
Password = Annotated[str, Field(min_length=8, max_length=128)]
RefreshToken = Annotated[str, Field(min_length=1, max_length=512)]


class Register(Shape):
    """A new account."""

    email: Email
    name: Name
    password: Password
    role: Literal["CUSTOMER", "VENDOR"] = Role.CUSTOMER.value

    @field_validator("password")
    @classmethod
    def _not_the_obvious(cls, password: str, info: ValidationInfo) -> str:
        if password.casefold() in {str(info.data.get(known, "")).casefold() for known in ("email", "name")}:
            raise wrong("must not be the e-mail address or the name")
        return password


class Login(Shape):
    """A sign-in. Anything may be tried: what is no address or password belongs to nobody."""

    email: Annotated[str, Field(max_length=1024)]
    password: Annotated[str, Field(max_length=1024)]


class Refresh(Shape):
    """A refresh token, to be spent."""

    refresh_token: RefreshToken


class Logout(Shape):
    """The end of this session, or of all."""

    refresh_token: RefreshToken | None = None
    everywhere: bool = False
