"""What each type of event says: a sentence about it, and the model of its `data`."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import MISSING, Field

from actors import snapshots
from actors.events import EventType
from db.core.json_model import Id, JsonModel


class EndedSession(JsonModel):
    """Whose session has ended; `everywhere` says that all sessions of the user have."""

    user_id: Id
    everywhere: bool


class Account(snapshots.User):
    """A user account. `active` (neither suspended nor closed) is there if an administrator changed it."""

    active: bool | MISSING = MISSING


class ConfigChange(JsonModel):
    """The value of a key before a change, and since."""

    from_: Annotated[Any, Field(serialization_alias="from", examples=[1])]
    to: Annotated[Any, Field(examples=[0.9])]


class ConfigChanges(JsonModel):
    """The changed keys of the configuration."""

    changes: Annotated[
        dict[str, ConfigChange], Field(examples=[{"psp.approvalRate": {"from": 1, "to": 0.9}}])
    ]


@dataclass(frozen=True)
class Description:
    """When an event occurs, and the model of its data."""

    summary: str
    data: type[JsonModel]


DESCRIPTIONS = {
    EventType.USER_REGISTERED: Description("A user registered.", snapshots.User),
    EventType.USER_LOGGED_IN: Description("A user signed in.", snapshots.User),
    EventType.USER_LOGGED_OUT: Description("A session, or all sessions of a user, ended.", EndedSession),
    EventType.PASSWORD_CHANGED: Description("A password was changed or reset.", snapshots.User),
    EventType.PAYMENT_CREATED: Description("A payment or payment request was created.", snapshots.Payment),
    EventType.PAYMENT_UPDATED: Description(
        "The status, the description or the terms of a payment changed.", snapshots.Payment
    ),
    EventType.PAYMENT_COMPLETED: Description("A payment completed.", snapshots.Payment),
    EventType.PAYMENT_FAILED: Description("A payment failed.", snapshots.Payment),
    EventType.ADMIN_USER_CREATED: Description("An administrator created an account.", Account),
    EventType.ADMIN_USER_UPDATED: Description("An account, its role or its name was changed.", Account),
    EventType.ADMIN_USER_DELETED: Description("An account was closed.", Account),
    EventType.CONFIG_UPDATED: Description("The configuration was changed.", ConfigChanges),
}
