"""Middleware 10: while `maintenance.readOnly` is set, requests that change data are refused."""

from typing import Any

from falcon import Request, Response

from api.http.operation import operation_of
from db import config
from db.config import ConfigKey
from db.core.errors import DomainError, ErrorCode


class ReadOnly(DomainError, code=ErrorCode.SERVICE_UNAVAILABLE, retry_after=30):
    """The service is in maintenance: data can be read and not changed."""


class Maintenance:
    """Lets pass GET, HEAD, and the operations that are `allowed_in_maintenance`."""

    def process_resource(self, req: Request, _resp: Response, resource: Any, _params: Any) -> None:
        """Refuses a request that would change data. Raises ReadOnly."""
        operation = operation_of(resource, req)
        if operation and not operation.allowed_in_maintenance and req.method not in ("GET", "HEAD"):
            refuse_if_read_only()


def refuse_if_read_only() -> None:
    """Raises ReadOnly while `maintenance.readOnly` is set."""
    if config.value(ConfigKey.MAINTENANCE_READ_ONLY):
        raise ReadOnly({"reason": "read_only"})
