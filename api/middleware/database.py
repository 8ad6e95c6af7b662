"""Middleware 8: a request holds a database connection from the router to its response."""

from typing import Any

from falcon import Request, Response

from api.http import admission
from api.http.operation import operation_of


class DatabaseConnection:
    """Takes a connection only after routing: a request that was refused before costs none."""

    def process_resource(self, req: Request, _resp: Response, resource: Any, _params: Any) -> None:
        """Takes a connection for an operation; raw operations take their own. Raises a database error."""
        if operation_of(resource, req):
            admission.connect()

    def process_response(self, _req: Request, _resp: Response, _resource: Any, _succeeded: bool) -> None:
        admission.disconnect()
