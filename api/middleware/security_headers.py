"""Middleware 1: the headers that tell a browser how to treat every response, and not to store it."""

from typing import Any

from falcon import Request, Response

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self'; "
    "img-src 'self' data:; frame-ancestors 'none'; base-uri 'self'; object-src 'none'",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    # Browsers apply it only to what a page embeds without CORS, such as an image: a frontend's fetch is not
    # affected.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_BY_LOWER_CASE_NAME = {name.lower(): value for name, value in SECURITY_HEADERS.items()}


class SecurityHeaders:
    """Sets each header that the route did not set itself, as the route of avatars sets its Cache-Control."""

    def process_response(self, _req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        # Falcon's public methods would convert each name and value again, for every response.
        resp._headers = _BY_LOWER_CASE_NAME | resp._headers
