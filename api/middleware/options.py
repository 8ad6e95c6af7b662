"""The methods of an address: OPTIONS that is no preflight names them, and a 405 for a method nobody knows."""

from typing import Any

import falcon
from falcon import Request, Response

from api.http import envelope


class Options:
    """Falcon's own answers would be a 200 without a body, and a 400 without Allow."""

    def process_resource(self, req: Request, resp: Response, resource: Any, _params: Any) -> None:
        """Answers instead of the resource, which need not know the method. Raises HTTPMethodNotAllowed."""
        if req.method == "OPTIONS":
            methods = _of(resource)
            data = {"methods": methods}
            envelope.succeed(resp, envelope.success(data, "The methods of this address."), status=200)
            resp.set_header("Allow", ", ".join([*methods, "OPTIONS"]))
            resp.complete = True
        elif req.method not in falcon.HTTP_METHODS:
            raise falcon.HTTPMethodNotAllowed([*_of(resource), "OPTIONS"])


def _of(resource: Any) -> list[str]:
    return [name for name in falcon.HTTP_METHODS if hasattr(resource, f"on_{name.lower()}")]
