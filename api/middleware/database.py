"""Middleware 8: a request holds a database connection from the router to its response."""

from typing import Any

from falcon import Request, Response

from api.http.operation import operation_of
from db import postgres


class DatabaseConnection:
    """Takes a connection only after routing: a request that was refused before costs none."""

    def process_resource(self, req: Request, _resp: Response, resource: Any, _params: Any) -> None:
        """Takes a connection for an operation; raw operations take their own. Raises a database error."""
        if operation_of(resource, req):
            req.context.opened = postgres.database.connect(reuse_if_open=True)

    def process_response(self, req: Request, _resp: Response, _resource: Any, _succeeded: bool) -> None:
        if getattr(req.context, "opened", False):
            postgres.database.close()
