"""The AsyncAPI 3 document, written from the catalogue of events."""

from typing import Any

import falcon

from actors import events
from actors.events import Event, EventType
from actors.snapshots import EVENT_DATA
from api.openapi.schemas import Schema, Schemas
from db.core import VERSION
from db.states import PaymentStatus

_DESCRIPTION = """\
Every change is an event. Events are numbered without gaps (`seq`) and arrive in that order, at least once: an
event that arrives again has the same `id` and `seq`. `data` is a snapshot from the transaction of the change.

* On the Redis channel `events` every event is published. What was missed while a subscriber was away is in
  `GET /api/admin/events?after=<seq>`.
* `GET /api/events/stream` has the events that the caller may see, as Server-Sent Events: `id` is `seq`,
  `event` is `type`, `data` is the message. `Last-Event-ID` resumes after an event.
"""

# The values of an event's example that differ from the examples of the fields.
_EXAMPLES: dict[EventType, dict[str, Any]] = {
    EventType.PAYMENT_UPDATED: {"status": PaymentStatus.PROCESSING, "version": 2},
    EventType.PAYMENT_COMPLETED: {"status": PaymentStatus.COMPLETED, "version": 3},
    EventType.PAYMENT_FAILED: {
        "status": PaymentStatus.FAILED,
        "version": 3,
        "failure": {
            "code": "insufficient_funds",
            "message": "The payment was declined: insufficient funds.",
        },
    },
    EventType.ADMIN_USER_CREATED: {"active": True},
    EventType.ADMIN_USER_UPDATED: {"active": True},
    EventType.ADMIN_USER_DELETED: {
        "active": False,
        "email": "closed-019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e@closed.invalid",
        "name": "Closed account",
    },
}


def document() -> dict[str, Any]:
    """Returns the AsyncAPI document: one schema, one message and one example for each type of event."""
    schemas = Schemas([Event, *(described.data for described in EVENT_DATA.values())])
    payloads = {_name(type): _payload(type, schemas) for type in EventType}
    messages = {_name(type): _message(type, payloads[_name(type)], schemas) for type in EventType}
    of_a_channel = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    components = {name: schema for name, schema in schemas.components().items() if name != Event.__name__}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Paywright events",
            "version": VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": falcon.MEDIA_JSON,
        "servers": {
            "redis": {
                "host": "{host}",
                "protocol": "redis",
                "description": "The Redis of REDIS_URL.",
                "variables": {"host": {"default": "127.0.0.1:6379"}},
                "security": [{"$ref": "#/components/securitySchemes/redis"}],
                "bindings": {"redis": {}},
            },
            "api": {
                "host": "{host}",
                "pathname": "/api",
                "protocol": "http",
                "description": "The REST API; https behind a proxy.",
                "variables": {"host": {"default": "127.0.0.1:3000"}},
                "security": [
                    {"$ref": "#/components/securitySchemes/bearer"},
                    {"$ref": "#/components/securitySchemes/ticket"},
                ],
                "bindings": {"http": {}},
            },
        },
        "channels": {
            "events": {
                "address": events.CHANNEL,
                "title": "All events",
                "description": "A Pub/Sub channel: each message is one event.",
                "servers": [{"$ref": "#/servers/redis"}],
                "messages": of_a_channel,
                "bindings": {"redis": {}},
            },
            "stream": {
                "address": "/events/stream",
                "title": "The events that the caller may see",
                "description": "Server-Sent Events: the `data` of each is one message, on one line.",
                "servers": [{"$ref": "#/servers/api"}],
                "messages": of_a_channel,
                "bindings": {"http": {}},
            },
        },
        "operations": {
            "publishEvents": {
                "action": "send",
                "channel": {"$ref": "#/channels/events"},
                "summary": "Publish every event.",
                "bindings": {"redis": {}},
            },
            "streamEvents": {
                "action": "send",
                "channel": {"$ref": "#/channels/stream"},
                "summary": "Stream the events that the caller may see.",
                "bindings": {"http": {"method": "GET", "query": _QUERY, "bindingVersion": "0.3.0"}},
            },
        },
        "components": {
            "messages": messages,
            "schemas": {**components, **payloads},
            "correlationIds": {
                "request": {
                    "description": "The X-Request-ID of the request that caused the event.",
                    "location": "$message.payload#/requestId",
                }
            },
            "securitySchemes": {
                "redis": {"type": "userPassword", "description": "The user and password of Redis."},
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "ticket": {
                    "type": "httpApiKey",
                    "in": "query",
                    "name": "ticket",
                    "description": "A ticket of `POST /api/events/ticket`, which works once.",
                },
            },
        },
    }


_QUERY = {
    "type": "object",
    "properties": {
        "lastEventId": {"type": "integer", "minimum": 0, "description": "Resumes after this `seq`."},
        "ticket": {"type": "string"},
    },
    "additionalProperties": False,
}


def _name(type: EventType) -> str:
    return "".join(word.capitalize() for word in type.name.split("_"))


def _payload(type: EventType, schemas: Schemas) -> Schema:
    """Returns the schema of an event of this type: that of every event, with its type and its data."""
    event = schemas.of(Event)
    own = {"type": {"const": type, "type": "string"}, "data": schemas.ref(EVENT_DATA[type].data)}
    return {
        **event,
        "title": _name(type),
        "description": EVENT_DATA[type].summary,
        "properties": {**event["properties"], **own},
    }


def _message(type: EventType, payload: Schema, schemas: Schemas) -> dict[str, Any]:
    example = schemas.example(payload)
    example["data"] |= _EXAMPLES.get(type, {})
    return {
        "name": type,
        "title": _name(type),
        "summary": EVENT_DATA[type].summary,
        "contentType": falcon.MEDIA_JSON,
        "payload": {"$ref": f"#/components/schemas/{_name(type)}"},
        "correlationId": {"$ref": "#/components/correlationIds/request"},
        "tags": [{"name": type.partition(":")[0]}],
        "examples": [{"name": _name(type), "summary": EVENT_DATA[type].summary, "payload": example}],
    }
