"""GET /.well-known/jwks.json: the public keys with which other services verify access tokens."""

from typing import Annotated, Literal

import falcon
from falcon import Request, Response
from pydantic import Field

from api.http import etag
from api.http.operation import RawOperation
from api.security.keys import Keys
from db.core.json_model import JsonModel


class JsonWebKey(JsonModel):
    """A public key that verifies access tokens (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    alg: Literal["EdDSA"]
    use: Literal["sig"]
    kid: Annotated[str, Field(examples=["5d1b3f0c9a7e2468"])]
    x: Annotated[str, Field(examples=["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"])]


class JsonWebKeySet(JsonModel):
    """The public keys that verify access tokens (RFC 7517). Empty where a shared secret signs them."""

    keys: list[JsonWebKey]


class Jwks:
    """GET /.well-known/jwks.json."""

    def __init__(self, keys: Keys) -> None:
        self._body = JsonWebKeySet.model_validate(keys.jwks()).model_dump_json().encode()

    @RawOperation(name="getKeys", response=JsonWebKeySet, etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get the public keys that verify access tokens."""
        etag.send(req, resp, self._body, falcon.MEDIA_JSON, "public", "max-age=300")
