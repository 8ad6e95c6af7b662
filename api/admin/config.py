"""GET, PUT /admin/config."""

from falcon import Request

from actors import audit, events
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import transaction
from api.admin import schemas
from api.http.operation import Operation
from api.middleware.authentication import caller_of
from api.security.permissions import Permission
from db import config


class Config:
    """GET, PUT /admin/config."""

    @Operation(Permission.OPERATE, "Configuration.", name="getConfig", etag=True)
    def on_get(self, _req: Request) -> schemas.ConfigSettings:
        """Get the configuration.

        These settings can be changed without a restart.
        """
        return _settings()

    @Operation(
        Permission.OPERATE,
        "Configuration changed.",
        name="updateConfig",
        examples={"rate": {"psp.approvalRate": 1}, "maintenance": {"maintenance.readOnly": False}},
        allowed_in_maintenance=True,
    )
    def on_put(self, req: Request, body: schemas.ConfigUpdate) -> schemas.ConfigSettings:
        """Change the configuration.

        Changes the keys that are sent, either all or none. Takes effect in every process within two seconds.
        """
        values = body.values
        with transaction():
            # One change at a time, so that each event's `from` is the value before it.
            config.lock_table()
            before = {setting.key: setting.value for setting in config.all_settings()}
            config.update(values, by=caller_of(req).user_id)
            changes = {str(key): {"from": before[key], "to": value} for key, value in values.items()}
            audit.record(AuditAction.CONFIG_UPDATED, details=changes)
            events.emit(EventType.CONFIG_UPDATED, {"changes": changes})
        config.clear_cache()
        return _settings()


def _settings() -> schemas.ConfigSettings:
    settings = config.all_settings()
    return schemas.ConfigSettings(items=[schemas.ConfigSetting.model_validate(each) for each in settings])
