"""The configuration that administrators change without a restart."""

from decimal import Decimal
from typing import Annotated, Any

from falcon import Request
from pydantic import MISSING, AfterValidator, Field
from pydantic.alias_generators import to_camel

from actors import audit, events
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import QueueName, transaction
from api.http import etag
from api.http.fields import Amount, PartialUpdate, invalid
from api.http.operation import Operation, Versioned
from api.middleware.authentication import caller_of
from api.security.permissions import Permission
from db import config
from db.config import ConfigKey
from db.core import money
from db.core.json_model import Id, JsonModel, Timestamp


def _two_decimals(value: Decimal) -> Decimal:
    if value != value.quantize(money.MIN_AMOUNT):
        raise invalid("must have at most two decimals")
    return value.quantize(money.MIN_AMOUNT)


_Limit = Annotated[Amount, AfterValidator(_two_decimals)]


_Queues = Annotated[list[QueueName], Field(max_length=100), AfterValidator(lambda names: sorted(set(names)))]


def _config_key(name: str) -> str:
    """Returns the key of a field: `psp.approvalRate` for `psp_approval_rate`."""
    group, _, rest = name.partition("_")
    return f"{group}.{to_camel(rest)}"


class ConfigUpdate(PartialUpdate, alias_generator=_config_key):
    """New values by key. Either all are stored or none."""

    psp_approval_rate: Annotated[float, Field(ge=0, le=1)] | MISSING = MISSING
    psp_latency_ms: Annotated[int, Field(ge=0, le=5000)] | MISSING = MISSING
    payments_max_amount: _Limit | MISSING = MISSING
    payments_request_ttl_hours: Annotated[int, Field(ge=1, le=24 * 365)] | MISSING = MISSING
    payments_daily_limit: Annotated[int, Field(ge=1, le=10_000)] | MISSING | None = MISSING
    payments_unverified_amount: _Limit | MISSING | None = MISSING
    maintenance_read_only: bool | MISSING = MISSING
    queues_paused: _Queues | MISSING = MISSING

    @property
    def values(self) -> dict[ConfigKey, Any]:
        """The values to store, by key; amounts as decimal text."""
        return {
            ConfigKey(_config_key(name)): str(value) if isinstance(value, Decimal) else value
            for name, value in self.named.items()
        }


class ConfigSetting(JsonModel):
    """A key of the configuration. `updatedAt` and `updatedBy` are null while the default is in force."""

    key: Annotated[ConfigKey, Field(examples=[ConfigKey.PSP_APPROVAL_RATE])]
    value: Annotated[Any, Field(examples=[1])]
    description: Annotated[str, Field(examples=["Hours for which a payment request can be paid."])]
    updated_at: Annotated[Timestamp | None, Field(examples=[None])]
    updated_by: Annotated[Id | None, Field(examples=[None])]


class ConfigSettings(JsonModel):
    """Every key of the configuration."""

    items: list[ConfigSetting]


@Operation(Permission.OPERATE, "Configuration.", response=ConfigSettings, etag=True)
def get_config(_req: Request) -> Versioned:
    """Get the configuration.

    These settings can be changed without a restart.
    """
    settings = _settings()
    return Versioned(settings, _version(settings))


@Operation(
    Permission.OPERATE,
    "Configuration changed.",
    response=ConfigSettings,
    examples={"rate": {"psp.approvalRate": 1}, "maintenance": {"maintenance.readOnly": False}},
    allowed_in_maintenance=True,
    etag=True,
    if_match=True,
)
def update_config(req: Request, body: ConfigUpdate) -> Versioned:
    """Change the configuration.

    Changes the keys that are sent, either all or none. Takes effect in every process within two seconds.
    `queues.paused` is the whole list: send `If-Match` with the `ETag` of the configuration, so that what
    another administrator pauses at the same moment is not lost.
    """
    values = body.values
    with transaction():
        # One change at a time, so that each event's `from` is the value before it, and `If-Match` holds.
        config.lock_table()
        old = _settings()
        etag.require_match(req, _version(old))
        before = {setting.key: setting.value for setting in old.items}
        config.update(values, by=caller_of(req).user_id)
        changes = {str(key): {"from": before[key], "to": value} for key, value in values.items()}
        audit.record(AuditAction.CONFIG_UPDATED, details=changes)
        events.emit(EventType.CONFIG_UPDATED, {"changes": changes})
        settings = _settings()
    config.clear_cache()
    return Versioned(settings, _version(settings))


def _settings() -> ConfigSettings:
    settings = config.all_settings()
    return ConfigSettings(items=[ConfigSetting.model_validate(each) for each in settings])


def _version(settings: ConfigSettings) -> str:
    return etag.digest(settings.model_dump_json().encode())
