"""The public keys with which other services verify our access tokens, without a secret of ours."""

from falcon import Request, Response
from pydantic_core import to_json

from api.auth.schemas import JsonWebKeySet
from api.http import etag
from api.http.operation import raw_operation
from api.security.keys import Keys


class KeySet:
    """GET /.well-known/jwks.json: bare JSON (RFC 7517); empty where a shared secret signs."""

    def __init__(self, keys: Keys) -> None:
        self._body = to_json(keys.jwks())

    @raw_operation(name="getKeys", response=JsonWebKeySet, etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """The public keys that verify access tokens."""
        resp.content_type = "application/json"
        resp.cache_control = ["public", "max-age=300"]
        resp.data = self._body
        etag.tag(req, resp)
