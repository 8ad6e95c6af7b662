"""GET, PUT /admin/config: what may be changed while everything runs."""

from typing import Any

from falcon import Request

from actors import audit, events
from actors.jobs import transaction
from api.admin import answers, schemas
from api.http.operation import operation
from api.middleware import authentication
from api.security.permissions import Permission
from db import config
from db.core import times


class Config:
    """GET, PUT /admin/config"""

    @operation(
        Permission.OPERATE, "Configuration.", name="getConfig", response=answers.ConfigSettings, etag=True
    )
    def on_get(self, _req: Request) -> dict[str, Any]:
        """Every key, as it stands."""
        return _written()

    @operation(
        Permission.OPERATE,
        "Configuration changed.",
        name="updateConfig",
        body=schemas.ConfigUpdate,
        response=answers.ConfigSettings,
        examples={"rate": {"psp.approvalRate": 1}, "maintenance": {"maintenance.readOnly": False}},
        allowed_in_maintenance=True,
    )
    def on_put(self, req: Request, body: schemas.ConfigUpdate) -> dict[str, Any]:
        """Changes the keys that are named, all or none. It holds in every process within two seconds."""
        values = body.values
        with transaction():
            config.lock_table()
            before = {setting.key: setting.value for setting in config.all_settings()}
            config.update(values, by=authentication.caller_of(req).user_id)
            changes: dict[str, Any] = {
                key: {"from": before[key], "to": value} for key, value in values.items()
            }
            audit.record(audit.AuditAction.CONFIG_UPDATED, details=changes)
            events.emit(events.EventType.CONFIG_UPDATED, {"changes": changes})
        config.clear_cache()
        return _written()


def _written() -> dict[str, Any]:
    return {
        "items": [
            {
                "key": it.key,
                "value": it.value,
                "description": it.description,
                "updatedAt": times.iso(it.updated_at) if it.updated_at else None,
                "updatedBy": str(it.updated_by) if it.updated_by else None,
            }
            for it in config.all_settings()
        ]
    }
