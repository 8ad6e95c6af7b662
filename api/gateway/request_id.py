"""Gate 1: every request has an id; it is in its answer, log lines, audit rows and events."""

import re
from uuid import uuid4

import structlog
from falcon import Request, Response

from actors import origin

HEADER = "X-Request-ID"

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_USER_AGENT_LENGTH = 512


class RequestId:
    """Takes the caller's id when it is a sane token, else makes one."""

    def process_request(self, req: Request, resp: Response) -> None:
        """Opens the request's origin."""
        offered = req.get_header(HEADER) or ""
        request_id = offered if _SANE.fullmatch(offered) else str(uuid4())
        agent = (req.user_agent or "")[:_USER_AGENT_LENGTH] or None
        # The thread served another request before.
        structlog.contextvars.clear_contextvars()
        origin.set(origin.Origin(request_id, ip_address=req.remote_addr, user_agent=agent))
        resp.set_header(HEADER, request_id)
