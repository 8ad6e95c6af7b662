"""Middleware 2: every request has an id; its response, log lines, audit rows and events carry it."""

import re
import time
from typing import Any
from uuid import uuid4

import structlog
from falcon import Request, Response

from api.http.client_address import Proxies
from db.core import request_context
from db.core.request_context import RequestContext

HEADER = "X-Request-ID"

_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_MAX_USER_AGENT_LENGTH = 512
# A process warns at most this often that it ignores a forwarded address.
WARNING_INTERVAL_S = 60.0

log = structlog.get_logger(__name__)


class BindRequestContext:
    """Binds the id, the client's address and the user agent to the thread while it serves the request."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies
        self._warned_at = float("-inf")

    def process_request(self, req: Request, resp: Response) -> None:
        request_id = accept_or_create_id(req.get_header(HEADER) or "")
        user_agent = (req.user_agent or "")[:_MAX_USER_AGENT_LENGTH] or None
        address = self._proxies.client(req.remote_addr, req.get_header("X-Forwarded-For") or "")
        # The thread may still have the log context of the request before.
        structlog.contextvars.clear_contextvars()
        request_context.bind(RequestContext(request_id, ip_address=address or None, user_agent=user_agent))
        resp.set_header(HEADER, request_id)
        self._warn_of_unknown_proxy(req)

    def process_response(self, _req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        """Unbinds the context: what the thread logs next belongs to no request."""
        if resp.get_header(HEADER) is None:
            # Falcon refuses a method that HTTP does not define before it calls process_request.
            resp.set_header(HEADER, str(uuid4()))
        structlog.contextvars.clear_contextvars()
        request_context.bind(request_context.EMPTY)

    def _warn_of_unknown_proxy(self, req: Request) -> None:
        """Warns that behind a proxy that is not configured all clients share one rate limit."""
        ignored = req.get_header("X-Forwarded-For") and not self._proxies.trusts_peer(req.remote_addr)
        if ignored and time.monotonic() - self._warned_at >= WARNING_INTERVAL_S:
            self._warned_at = time.monotonic()
            peer = req.remote_addr
            log.warning("X-Forwarded-For is ignored: its sender is not in TRUSTED_PROXIES", peer=peer)


def accept_or_create_id(offered: str) -> str:
    """Returns the id that a client offers, if it is short and plain; otherwise a new one."""
    return offered if _ACCEPTED_ID.fullmatch(offered) else str(uuid4())
