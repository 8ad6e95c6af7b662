"""The client's address is the peer's, unless a trusted proxy reports another."""

import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from api.middleware import request_context
from api.middleware.request_context import Proxies
from api.settings import WebSettings
from db import audit_log
from db.core.settings import InvalidSetting
from tests.makers import SECRETS, work

STORES = {"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://"}
TRUSTED = Proxies.parse("10.0.0.0/8, 192.0.2.7, 2001:db8:1::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        # An untrusted peer's header is ignored.
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        # Addresses left of the client were written by the client.
        ("10.1.2.3", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "1.1.1.1,198.51.100.1 ,10.9.9.9, 192.0.2.7", "198.51.100.1"),
        ("192.0.2.7", "10.0.0.1, 10.0.0.2", "10.0.0.1"),
        # An invalid address ends the chain.
        ("10.1.2.3", "nonsense", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.1, unknown, 10.9.9.9", "10.9.9.9"),
        ("10.1.2.3", "198.51.100.1,,10.9.9.9", "10.9.9.9"),
        # Some proxies append the port.
        ("10.1.2.3", "198.51.100.1:4711", "198.51.100.1"),
        ("10.1.2.3", "[2001:db8:2::1]:4711", "2001:db8:2::1"),
        ("10.1.2.3", "[2001:db8:2::1]", "2001:db8:2::1"),
        ("2001:db8:1::1", "2001:DB8:2:0::1", "2001:db8:2::1"),
        ("2001:db8:2::1", "198.51.100.1", "2001:db8:2::1"),
        # A dual-stack socket shows IPv4 as IPv6.
        ("::ffff:10.1.2.3", "::ffff:198.51.100.1", "198.51.100.1"),
        ("::ffff:203.0.113.5", "198.51.100.1", "203.0.113.5"),
        ("fe80::1%eth0", "", "fe80::1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_the_client_is_the_right_most_address_that_is_not_a_trusted_proxy(peer, forwarded, client):
    assert TRUSTED.client(peer, forwarded) == client


def test_no_proxy_is_trusted_by_default():
    assert Proxies().client("127.0.0.1", "198.51.100.1") == "127.0.0.1"


def test_a_mapped_network_is_an_ipv4_network():
    assert Proxies.parse("::ffff:10.0.0.0/104") == Proxies.parse("10.0.0.0/8")


@pytest.mark.parametrize("wrong", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8;::1", "*"])
def test_an_invalid_list_stops_the_start_with_the_name_of_the_setting(wrong):
    with pytest.raises(InvalidSetting, match=r"^invalid setting: TRUSTED_PROXIES: .*10\.0\.0\.0/8,::1$"):
        WebSettings.read({**SECRETS, **STORES, "TRUSTED_PROXIES": wrong})


def test_the_audit_log_names_the_client_and_not_the_proxy(database, proxied_client):
    credentials = {"email": "nobody@example.com", "password": "wrong password"}
    proxied_client.simulate_post(
        "/api/auth/login", json=credentials, headers={"X-Forwarded-For": "6.6.6.6, 198.51.100.1"}
    )
    work()
    assert (
        audit_log.AuditLog.select().order_by(audit_log.AuditLog.created_at.desc()).first().ip_address
        == "198.51.100.1"
    )


def test_an_ignored_forwarded_header_is_logged_once_a_minute(make_client, proxied_client, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    untrusted, forwarded = make_client(), {"X-Forwarded-For": "198.51.100.1"}
    with capture_logs() as logged:
        proxied_client.simulate_get("/console/assets/live.js", headers=forwarded)
        untrusted.simulate_get("/console/assets/live.js")
        assert warnings(logged) == []
        for _ in range(3):
            untrusted.simulate_get("/console/assets/live.js", headers=forwarded)
        assert warnings(logged) == ["127.0.0.1"]
        clock[0] += request_context.WARNING_INTERVAL_S
        untrusted.simulate_get("/console/assets/live.js", headers=forwarded)
        assert len(warnings(logged)) == 2


def warnings(logged: Any) -> list[str]:
    return [line["peer"] for line in logged if "X-Forwarded-For is ignored" in line["event"]]
