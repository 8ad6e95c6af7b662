"""Gate 1: every request has an id; it is in its answer, log lines, audit rows and events."""

import re
import threading
import time
from typing import Any
from uuid import uuid4

import structlog
from falcon import Request, Response

from api.http.client_address import Proxies
from db.core import request_context

HEADER = "X-Request-ID"

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_USER_AGENT_LENGTH = 512
# How often a process says at most that it ignores a forwarded address.
WARNING_INTERVAL_S = 60.0

log = structlog.get_logger(__name__)


class RequestId:
    """Takes the caller's id when it is a sane token, else makes one."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies
        self._lock = threading.Lock()
        self._warned_at = float("-inf")

    def process_request(self, req: Request, resp: Response) -> None:
        """Opens the request's origin."""
        request_id = chosen(req.get_header(HEADER) or "")
        agent = (req.user_agent or "")[:_USER_AGENT_LENGTH] or None
        address = self._proxies.client(req.remote_addr, req.get_header("X-Forwarded-For") or "")
        # The thread served another request before.
        structlog.contextvars.clear_contextvars()
        request_context.bind(
            request_context.RequestContext(request_id, ip_address=address or None, user_agent=agent)
        )
        resp.set_header(HEADER, request_id)
        if req.get_header("X-Forwarded-For") and not self._proxies.trusts_peer(req.remote_addr):
            self._warn(req.remote_addr)

    def _warn(self, peer: str) -> None:
        """Behind a proxy that is not named all clients share one rate limit: an operator must see why."""
        with self._lock:
            now = time.monotonic()
            if now - self._warned_at < WARNING_INTERVAL_S:
                return
            self._warned_at = now
        log.warning("X-Forwarded-For is ignored: its sender is not in TRUSTED_PROXIES", peer=peer)

    def process_response(self, _req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        """Closes it: what the thread says next belongs to no request."""
        if resp.get_header(HEADER) is None:
            # Falcon refuses a method that is none of HTTP's before any gate.
            resp.set_header(HEADER, str(uuid4()))
        structlog.contextvars.clear_contextvars()
        request_context.bind(request_context.EMPTY)


def chosen(offered: str) -> str:
    """The id that a caller offers, if it is a sane token; else a new one."""
    return offered if _SANE.fullmatch(offered) else str(uuid4())
