"""Middleware 7: refuses a body by its headers, before a byte of it is in memory, then reads the body."""

from typing import Any

from falcon import Request, Response

from api.http.body import LengthRequired, MalformedJson, PayloadTooLarge

MIB = 1024 * 1024
MAX_BODY_BYTES = 1 * MIB
# The limits of a POST to these paths, whose operations read the body as a stream.
MAX_BODY_BYTES_BY_PATH = dict.fromkeys(("/api/profile/avatar", "/console/account/avatar"), 5 * MIB)


def max_body_bytes(method: str, path: str) -> int:
    """Returns the length of the largest body that a request with this method and path may have."""
    return MAX_BODY_BYTES_BY_PATH.get(path, MAX_BODY_BYTES) if method == "POST" else MAX_BODY_BYTES


class BodyLimit:
    """Limits the length of the body, and puts its bytes into `req.context.raw`."""

    def process_request(self, req: Request, _resp: Response) -> None:
        """Checks the headers. Raises LengthRequired for a chunked body, and PayloadTooLarge."""
        if req.get_header("Transfer-Encoding"):
            raise LengthRequired
        limit = max_body_bytes(req.method, req.path)
        if (req.content_length or 0) > limit:
            raise PayloadTooLarge(mib=limit // MIB)

    def process_resource(self, req: Request, _resp: Response, _resource: Any, _params: Any) -> None:
        """Reads the body, except for a path that takes a large one. Raises MalformedJson."""
        streamed = req.method == "POST" and req.path in MAX_BODY_BYTES_BY_PATH
        raw = b"" if streamed else req.bounded_stream.read()
        if not streamed and len(raw) < (req.content_length or 0):
            # The client disconnected: a part of a body must have no effect.
            raise MalformedJson(what="is shorter than its Content-Length")
        req.context.raw = raw
