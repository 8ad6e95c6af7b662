"""Middleware 2: gives every request an id, a client address and a trace, which logs, jobs and events carry.

Where spans are exported, each request is a span of its trace.
"""

import re
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Self
from uuid import uuid4

import structlog
from falcon import Request, Response

from actors import tracing
from api.operations import request_counts
from db.core import request_context, trace
from db.core.request_context import RequestContext

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")

# The prefix lengths of the largest private networks: 10.0.0.0/8 and fc00::/7.
_MIN_PREFIX = {4: 8, 6: 7}

# How many clients' addresses are remembered: parsing one takes longer than the rest of this middleware.
_MAX_REMEMBERED = 4096

# Some proxies append the port: 192.0.2.1:443, [2001:db8::1]:443.
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([\d.]+):\d+")


@dataclass(frozen=True)
class Proxies:
    """The proxies whose `X-Forwarded-For` is trusted."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses comma separated addresses and CIDRs. Raises ValueError."""
        try:
            return cls(tuple(_network(part.strip()) for part in text.split(",") if part.strip()))
        except ValueError:
            raise ValueError(
                "must be comma separated addresses or CIDRs without host bits, such as 10.0.0.0/8,::1"
            ) from None

    @property
    def trusts_whole_internet(self) -> bool:
        """Whether a public network is trusted, so that clients could choose their own address."""
        return any(network.prefixlen < _MIN_PREFIX[network.version] for network in self.networks)

    @lru_cache(_MAX_REMEMBERED)  # noqa: B019  (the settings have one instance)
    def client(self, peer: str, forwarded_for: str) -> str:
        """Returns the client's address: the right-most one that is not a trusted proxy's.

        Looks at the peer of the connection, then through X-Forwarded-For from its end. Addresses further left
        may be forged. Returns "" if the peer has no address, as on a Unix socket.
        """
        address = _address(peer)
        if address is None:
            return ""
        for hop in reversed(forwarded_for.split(",")):
            if not self._trusts(address) or (before := _address(hop)) is None:
                break
            address = before
        return str(address)

    def trusts_peer(self, peer: str) -> bool:
        address = _address(peer)
        return address is not None and self._trusts(address)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def _address(text: str) -> Address | None:
    text = text.strip()
    if with_port := _WITH_PORT.fullmatch(text):
        text = with_port[1] or with_port[2]
    try:
        # A zone (fe80::1%eth0) names an interface of one machine, and is not part of the address.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> Network:
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return IPv4Network((int(mapped or 0), network.prefixlen - 96))
    return network


HEADER, TRACE_HEADER = "X-Request-ID", "traceparent"

_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_MAX_USER_AGENT_LENGTH = 512
# Machines request these paths every few seconds: no spans are recorded.
_NOT_RECORDED = ("/health", "/api/health", "/metrics")
# A process warns at most this often that it ignores a forwarded address.
WARNING_INTERVAL_S = 60.0

log = structlog.get_logger(__name__)


class BindRequestContext:
    """Binds the id, the client's address and the user agent to the thread while it serves the request.

    With `spans` the request is a span, which ends with the response.
    """

    def __init__(self, proxies: Proxies, *, spans: bool) -> None:
        self._proxies, self._spans = proxies, spans
        self._warned_at = float("-inf")

    def process_request(self, req: Request, resp: Response) -> None:
        request_id = accept_or_create_id(req.get_header(HEADER) or "")
        user_agent = (req.user_agent or "")[:_MAX_USER_AGENT_LENGTH] or None
        address = self._proxies.client(req.remote_addr, req.get_header("X-Forwarded-For") or "")
        traceparent = req.get_header(TRACE_HEADER)
        offered = trace.offered(traceparent, req.get_header("tracestate") or "") if traceparent else None
        context = RequestContext(
            request_id,
            ip_address=address or None,
            user_agent=user_agent,
            trace=trace.continued(offered) if offered else None,
        )
        request_context.bind(context)
        if self._spans and req.path not in _NOT_RECORDED:
            context = _begin_span(req, context, offered)
            request_context.bind(context)
        resp.set_header(HEADER, request_id)
        resp.set_header(TRACE_HEADER, context.traceparent or "")
        self._warn_of_unknown_proxy(req)

    def process_response(self, req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        """Unbinds the context: what the thread logs next belongs to no request."""
        if resp.get_header(HEADER) is None:
            # Falcon refuses a method that HTTP does not define before it calls process_request.
            for name, value in new_ids().items():
                resp.set_header(name, value)
        if span := getattr(req.context, "span", None):
            _end_span(req, resp, span)
        request_context.bind(request_context.EMPTY)

    def _warn_of_unknown_proxy(self, req: Request) -> None:
        """Warns that behind a proxy that is not configured all clients share one rate limit."""
        ignored = req.get_header("X-Forwarded-For") and not self._proxies.trusts_peer(req.remote_addr)
        if ignored and time.monotonic() - self._warned_at >= WARNING_INTERVAL_S:
            self._warned_at = time.monotonic()
            peer = req.remote_addr
            log.warning("X-Forwarded-For is ignored: its sender is not in TRUSTED_PROXIES", peer=peer)


def _begin_span(req: Request, context: RequestContext, offered: str | None) -> RequestContext:
    """Begins the span of a request, from which all that it causes follows."""
    attributes = {"http.request.method": req.method, "url.path": req.path, "url.scheme": req.scheme}
    if context.ip_address:
        attributes["client.address"] = context.ip_address
    if context.user_agent:
        attributes["user_agent.original"] = context.user_agent
    # The client's span is the parent, not the one that the request context has made up.
    req.context.span = span = tracing.begin_request(req.method, offered, attributes)
    return replace(context, trace=span.trace)


def _end_span(req: Request, resp: Response, span: tracing.Span) -> None:
    attributes: dict[str, str | int] = {"http.response.status_code": resp.status_code}
    name = req.method
    if req.uri_template:
        attributes["http.route"] = request_counts.shown_route(req.uri_template)
        name = f"{name} {attributes['http.route']}"
    span.describe(name, attributes)
    span.end(str(resp.status_code) if resp.status_code >= 500 else None)


def new_ids(offered_id: str = "") -> dict[str, str]:
    """Returns the headers that name a request which never reached the application."""
    request_id = accept_or_create_id(offered_id)
    return {HEADER: request_id, TRACE_HEADER: trace.begun(request_id)}


def accept_or_create_id(offered: str) -> str:
    """Returns the id that a client offers, if it is short and plain; otherwise a new one."""
    return offered if _ACCEPTED_ID.fullmatch(offered) else str(uuid4())
