"""Middleware 4: refuses other spellings of a path, and answers for methods that a path does not have.

`Routing` runs before the router (the path) and after it (the methods); `CanonicalUuid` is a converter of the
router.
"""

from typing import Any
from uuid import UUID

import falcon
from falcon import HTTPNotFound, Request, Response
from falcon.routing import BaseConverter, map_http_methods

from api.http import responses
from api.http.fields import UUID_TEXT


class CanonicalUuid(BaseConverter):
    """Converts `{id:uuid}` in a route template: the canonical spelling only, so that a resource has one URL.

    Falcon's own converter also accepts braces, `urn:uuid:` and a UUID without dashes.
    """

    def convert(self, value: str) -> UUID | None:
        """Returns the UUID; None, which ends in a 404, for any other spelling."""
        return UUID(value) if UUID_TEXT.fullmatch(value) else None


class Routing:
    """Refuses paths with another spelling, and answers for methods that a resource does not have."""

    def process_request(self, req: Request, _resp: Response) -> None:
        """Refuses empty segments and percent-encoding. Raises HTTPNotFound.

        The router ignores a second slash and the rate limit does not. No path of this API has a character
        that must be encoded: `%2F` and `%6d` only hide a path from the rules of a proxy in front.
        """
        sent_path = req.env.get("RAW_URI", "").partition("?")[0]
        if "//" in req.path or "%" in sent_path:
            raise HTTPNotFound

    def process_resource(self, req: Request, resp: Response, resource: Any, _params: Any) -> None:
        """Answers OPTIONS with the methods of the resource. Raises HTTPMethodNotAllowed for unknown methods.

        Falcon would answer OPTIONS with a 200 without a body, and an unknown method with a 400 without Allow.
        """
        if req.method == "OPTIONS":
            methods = list(map_http_methods(resource))
            data = {"methods": methods}
            responses.send(resp, responses.success(data, "The methods of this path."), status=200)
            resp.set_header("Allow", ", ".join([*methods, "OPTIONS"]))
            resp.complete = True
        elif req.method not in falcon.HTTP_METHODS:
            raise falcon.HTTPMethodNotAllowed([*map_http_methods(resource), "OPTIONS"])
