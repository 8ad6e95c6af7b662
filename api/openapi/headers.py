"""The headers of the OpenAPI document: those of requests and those of responses."""

from api.http.operation import Operation, RawOperation
from api.openapi.schemas import Schema

_STRING: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}

# Component name: header, example, description.
_REQUEST_HEADERS = {
    "RequestId": (
        "X-Request-ID",
        "checkout-4711",
        "Your own id of this request: 1 to 128 letters, digits and `._:-`. It is returned, and stands in "
        "logs, audit log entries and events.",
    ),
    "Traceparent": (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "The trace that this request belongs to (W3C Trace Context, with an optional `tracestate`). It goes "
        "on through jobs, calls of the payment provider and events. A value that is not valid is ignored.",
    ),
    "IfNoneMatch": (
        "If-None-Match",
        '"1"',
        "The `ETag` of the copy that you have. The response is a 304 while the resource is unchanged.",
    ),
    "IfMatch": (
        "If-Match",
        '"1"',
        "The `ETag` of the version that you want to change. The response is a 412 if it has changed.",
    ),
    "Prefer": (
        "Prefer",
        "wait=5",
        "`wait=N` (RFC 7240), 1 to 10 seconds: waits until the payment is settled. If that takes longer, or "
        "too many requests wait already, the response is the one without `Prefer`.",
    ),
    "PreferNewVersion": (
        "Prefer",
        "wait=10",
        "`wait=N` (RFC 7240), 1 to 10 seconds, together with `If-None-Match`: waits for a version other than "
        "that. The wait counts as one request. If thousands wait already, the response is a 304 at once.",
    ),
    "LastEventId": (
        "Last-Event-ID",
        "276",
        "The `id` of the last event that you have: the stream goes on after it. `EventSource` sends it when "
        "it connects again.",
    ),
    "IdempotencyKey": (
        "Idempotency-Key",
        "order-4711",
        "1 to 255 printable characters. A request that is repeated with the same key is executed once, and "
        "gets the first response again, byte for byte. Kept for at least 24 hours and until the payment has "
        "a terminal status.",
    ),
}

# Header: schema, description.
RESPONSE_HEADERS = {
    "X-Request-ID": (_STRING, "The id of the request: the same in logs, audit log entries and events."),
    "traceparent": (
        {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
        "The trace of the request: the client's, or a new one, with the id of this request's span.",
    ),
    "ETag": (_STRING, "The version of the resource."),
    "Idempotency-Replayed": (
        {"type": "string", "const": "true"},
        "Present if this is the stored response of an earlier request with the same `Idempotency-Key`.",
    ),
    "Preference-Applied": (
        {"type": "string", "pattern": "^wait=[0-9]+$"},
        "Present if the response waited as `Prefer` asked for.",
    ),
    "Content-Disposition": (_STRING, "The name of the file."),
    "Last-Event-ID": (_STRING, "The stream has the events after this one."),
    "RateLimit-Limit": (_COUNT, "Requests allowed in the window."),
    "RateLimit-Remaining": (_COUNT, "Requests left in the window."),
    "RateLimit-Reset": (_COUNT, "Seconds until the window ends."),
    "RateLimit": (
        {"type": "string", "examples": ['"api";r=99;t=900']},
        "For each limit that applies, by name: requests left (`r`), and seconds until the window ends (`t`); "
        "draft-ietf-httpapi-ratelimit-headers-10.",
    ),
    "RateLimit-Policy": (
        {"type": "string", "examples": ['"api";q=100;w=900']},
        "For each limit that applies, by name: requests allowed (`q`) in a window of so many seconds (`w`).",
    ),
    "Retry-After": (_COUNT, "Seconds after which another try may succeed."),
    "WWW-Authenticate": (
        {"type": "string", "const": "Bearer"},
        "Present if the access token is missing or not valid.",
    ),
    "Allow": (_STRING, "The methods that this path supports."),
}

_ALWAYS = ("X-Request-ID", "traceparent")
_RATE_LIMIT = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit", "RateLimit-Policy")
_BY_STATUS = {401: ["WWW-Authenticate"], 405: ["Allow"], 429: ["Retry-After"], 503: ["Retry-After"]}


def parameters() -> dict[str, Schema]:
    """Returns `components/parameters`: the headers of requests."""
    return {
        key: {"name": name, "in": "header", "description": description, "schema": _STRING, "example": example}
        for key, (name, example, description) in _REQUEST_HEADERS.items()
    }


def headers() -> dict[str, Schema]:
    """Returns `components/headers`: the headers of responses."""
    return {
        name: {
            "description": description,
            "schema": schema,
            **({"required": True} if name in _ALWAYS else {}),
        }
        for name, (schema, description) in RESPONSE_HEADERS.items()
    }


def of_request(operation: Operation | RawOperation, method: str) -> list[Schema]:
    """Returns references to the headers that a request of this operation may have."""
    names = {"RequestId": True, "Traceparent": True, "IfNoneMatch": operation.etag and method == "GET"}
    if isinstance(operation, Operation):
        names["IdempotencyKey"] = operation.idempotent
        names["PreferNewVersion" if method == "GET" else "Prefer"] = operation.prefer_wait
        names["IfMatch"] = operation.if_match
        names["LastEventId"] = operation.streams is not None
    return [{"$ref": f"#/components/parameters/{name}"} for name, applies in names.items() if applies]


def of_error(status: int) -> dict[str, Schema]:
    """Returns references to the headers of an error response."""
    return _references([*_ALWAYS, *_RATE_LIMIT, *_BY_STATUS.get(status, ())])


def of_success(operation: Operation | RawOperation, *, unchanged: bool = False) -> dict[str, Schema]:
    """Returns references to the headers of a success, or of a 304 if the resource is `unchanged`."""
    names = [*_ALWAYS]
    if operation.etag:
        names.append("ETag")
    if isinstance(operation, Operation):
        names += _RATE_LIMIT
        names += ["Preference-Applied"] if operation.prefer_wait else []
        if not unchanged:
            names += ["Idempotency-Replayed"] if operation.idempotent else []
            names += ["Content-Disposition"] if operation.downloads else []
            names += ["Last-Event-ID"] if operation.streams else []
    return _references(names)


def _references(names: list[str]) -> dict[str, Schema]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
