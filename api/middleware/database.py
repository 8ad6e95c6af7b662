"""Gate 6: a request that found its route has a database connection, and gives it back."""

from typing import Any

from falcon import Request, Response

from api.http.operation import operation_of
from db import postgres


class Connection:
    """Opens late, so that what is refused on the way costs no connection."""

    def process_resource(self, req: Request, _resp: Response, resource: Any, _params: Any) -> None:
        """Takes one from the pool for an operation. Raises postgres.TRANSIENT_ERRORS."""
        if operation_of(resource, req):
            req.context.opened = postgres.database.connect(reuse_if_open=True)

    def process_response(self, req: Request, _resp: Response, _resource: Any, _succeeded: bool) -> None:
        """Gives it back."""
        if getattr(req.context, "opened", False):
            postgres.database.close()
