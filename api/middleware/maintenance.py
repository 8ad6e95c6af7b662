"""Gate 8: while `maintenance.readOnly` is set, nothing that would change something passes."""

from typing import Any

from falcon import Request, Response

from api.http.operation import operation_of
from db import config
from db.config import ConfigKey
from db.core.errors import DomainError, ErrorCode


class ReadOnly(DomainError):
    """The service is being maintained: it can be read, and changes nothing."""

    code = ErrorCode.SERVICE_UNAVAILABLE
    retry_after = 30

    def __init__(self) -> None:
        super().__init__({"reason": "read_only"})


class Maintenance:
    """Lets reading pass, and what an operation says must always be possible."""

    def process_resource(self, req: Request, _resp: Response, resource: Any, _params: Any) -> None:
        """Raises ReadOnly."""
        operation = operation_of(resource, req)
        if (
            operation is not None
            and not operation.allowed_in_maintenance
            and req.method not in ("GET", "HEAD")
        ):
            refuse()


def refuse() -> None:
    """Raises ReadOnly while nothing may be changed."""
    if config.value(ConfigKey.MAINTENANCE_READ_ONLY):
        raise ReadOnly
