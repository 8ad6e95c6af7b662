"""What the auth routes give."""

from typing import Annotated, Literal

from pydantic import Field

from api.http.responses import ResponseModel, User


class AuthResult(ResponseModel):
    """Who signed in, and the tokens of the session; `expiresIn` is in seconds."""

    user: User
    access_token: Annotated[
        str, Field(examples=["eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiIwMTliIn0.c2lnbmF0dXJl"])
    ]
    refresh_token: Annotated[str, Field(examples=["k5Yz0hQm9vTnqk3cG4b1xq8yLw2mJt7sRd6fUe0aPZg"])]
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Field(examples=[900])]


class EmailVerification(ResponseModel):
    """The address is proved."""

    email_verified: Literal[True]


class JsonWebKey(ResponseModel):
    """A key that verifies access tokens, as RFC 8037 writes it."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    alg: Literal["EdDSA"]
    use: Literal["sig"]
    kid: Annotated[str, Field(examples=["5d1b3f0c9a7e2468"])]
    x: Annotated[str, Field(examples=["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"])]


class JsonWebKeySet(ResponseModel):
    """The keys that verify access tokens (RFC 7517); none where a shared secret signs them."""

    keys: list[JsonWebKey]
