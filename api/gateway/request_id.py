"""Gate 1: every request has an id; it is in its answer, log lines, audit rows and events."""

import re
from typing import Any
from uuid import uuid4

import structlog
from falcon import Request, Response

from actors import origin
from api.gateway.address import Proxies

HEADER = "X-Request-ID"

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_USER_AGENT_LENGTH = 512


class RequestId:
    """Takes the caller's id when it is a sane token, else makes one."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies

    def process_request(self, req: Request, resp: Response) -> None:
        """Opens the request's origin."""
        request_id = chosen(req.get_header(HEADER) or "")
        agent = (req.user_agent or "")[:_USER_AGENT_LENGTH] or None
        address = self._proxies.client(req.remote_addr, req.get_header("X-Forwarded-For") or "")
        # The thread served another request before.
        structlog.contextvars.clear_contextvars()
        origin.set(origin.Origin(request_id, ip_address=address or None, user_agent=agent))
        resp.set_header(HEADER, request_id)

    def process_response(self, _req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        """Closes it: what the thread says next belongs to no request."""
        if resp.get_header(HEADER) is None:
            # Falcon refuses a method that is none of HTTP's before any gate.
            resp.set_header(HEADER, str(uuid4()))
        structlog.contextvars.clear_contextvars()
        origin.set(origin.NOWHERE)


def chosen(offered: str) -> str:
    """The id that a caller offers, if it is a sane token; else a new one."""
    return offered if _SANE.fullmatch(offered) else str(uuid4())
