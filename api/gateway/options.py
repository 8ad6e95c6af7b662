"""OPTIONS that is no preflight: the methods of an address, in the envelope."""

from typing import Any

import falcon
from falcon import Request, Response

from api.gateway import envelope


class Options:
    """Falcon's own answer would be a 200 without a body."""

    def process_resource(self, req: Request, resp: Response, resource: Any, _params: Any) -> None:
        """Answers instead of the resource, which need not know the method."""
        if req.method == "OPTIONS":
            methods = [name for name in falcon.HTTP_METHODS if hasattr(resource, f"on_{name.lower()}")]
            data = {"methods": methods}
            envelope.succeed(resp, envelope.success(data, "The methods of this address."), status=200)
            resp.set_header("Allow", ", ".join([*methods, "OPTIONS"]))
            resp.complete = True
