"""The last gate on the way out: what every answer tells a browser, and that it is not to be kept."""

from typing import Any

from falcon import Request, Response

POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'self'; object-src 'none'"
)

DEFAULTS = {
    "Content-Security-Policy": POLICY,
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    # Asked only of what a page embeds without CORS, as an image: a frontend's fetch is not touched by it.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Headers:
    """Sets the defaults; a route that set its own, as media its Cache-Control, keeps it."""

    def process_response(self, _req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        """Adds what is missing."""
        for name, value in DEFAULTS.items():
            if resp.get_header(name) is None:
                resp.set_header(name, value)
