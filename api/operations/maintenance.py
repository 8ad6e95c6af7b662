"""Whether the service is in maintenance, for the banner of any frontend."""

from falcon import Request

from api.http.operation import Operation
from api.security.permissions import Permission
from db import config
from db.config import ConfigKey
from db.core.json_model import JsonModel


class Maintenance(JsonModel):
    """While `readOnly` is true, requests that change data get a 503 with `details.reason` `read_only`."""

    read_only: bool


class MaintenanceState:
    """GET /maintenance."""

    @Operation(Permission.ANYONE, "Maintenance.", name="getMaintenance", etag=True)
    def on_get(self, _req: Request) -> Maintenance:
        """Get the state of maintenance.

        Up to a second old. Show it to users before they fill in a form.
        """
        return Maintenance(read_only=bool(config.value(ConfigKey.MAINTENANCE_READ_ONLY)))
