"""W3C trace context: which trace a request belongs to (https://www.w3.org/TR/trace-context/).

A trace is written `<traceparent>`, or `<traceparent> <tracestate>`. A request without a trace begins one
whose id is computed from the request's id, so that nothing has to be stored for it.
"""

import random
import re
from functools import lru_cache
from hashlib import blake2b

# Other versions may append fields.
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_TRACEPARENT_LENGTH = len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
# The flags that this version defines, "sampled" and "random": others must not be passed on.
_KNOWN_FLAGS = 0b11
_SAMPLED, _NOT_SAMPLED = 0b1, "00"
_MAX_STATE_LENGTH, _MAX_STATE_MEMBERS = 512, 32
_STATE_MEMBER = re.compile(
    r"[a-z0-9][a-z0-9_*/-]{0,255}(@[a-z0-9][a-z0-9_*/-]{0,13})?=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)

# For how many requests the trace id is cached, because each log line of a request needs it.
_MAX_REMEMBERED = 1024
# A request id of our own making, or another UUID.
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-(?!0000-0{12})[0-9a-f]{4}-[0-9a-f]{12}")


def offered(traceparent: str, tracestate: str) -> str | None:
    """Returns the trace of a client's headers; None if `traceparent` is absent or not valid."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if not found or (found["version"] == "00" and found["more"]):
        return None
    return _written(found["trace"], found["span"], int(found["flags"], 16) & _KNOWN_FLAGS, _state(tracestate))


def continued(trace: str) -> str:
    """Returns the same trace with the id of a new span."""
    parent, _, state = trace.partition(" ")
    return _written(trace_id(trace), f"{random.getrandbits(64) or 1:016x}", int(parent[-2:], 16), state)


def begun(request_id: str) -> str:
    """Returns the trace that begins with this request."""
    id = id_of_request(request_id)
    return f"00-{id}-{id[16:]}-{_NOT_SAMPLED}"


@lru_cache(_MAX_REMEMBERED)
def id_of_request(request_id: str) -> str:
    """Returns the id of the trace that begins with this request: its id where that is a UUID, or a hash."""
    if _UUID.fullmatch(request_id):
        return request_id.replace("-", "")
    return blake2b(request_id.encode(), digest_size=16).hexdigest()


def trace_id(trace: str) -> str:
    """Returns the id of a trace: 32 hexadecimal digits."""
    return trace[3:35]


def is_sampled(trace: str) -> bool:
    """Returns whether someone records the spans of a trace."""
    return bool(int(trace[53:55], 16) & _SAMPLED)


def traceparent(trace: str) -> str:
    """Returns the header `traceparent` of a trace."""
    return trace[:_TRACEPARENT_LENGTH]


def headers(trace: str) -> dict[str, str]:
    """Returns the headers that pass a trace on."""
    parent, _, state = trace.partition(" ")
    return {"traceparent": parent, "tracestate": state} if state else {"traceparent": parent}


def _written(id: str, span_id: str, flags: int, state: str) -> str:
    return f"00-{id}-{span_id}-{flags:02x} {state}".rstrip()


def _state(text: str) -> str:
    """Returns the valid tracestate, or an empty text."""
    members = [member.strip(" \t") for member in text.split(",")]
    members = [member for member in members if member]
    if len(text) > _MAX_STATE_LENGTH or len(members) > _MAX_STATE_MEMBERS:
        return ""
    return ",".join(members) if all(map(_STATE_MEMBER.fullmatch, members)) else ""
