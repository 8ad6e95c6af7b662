"""nginx in front, configured as in compose.yml, with two web processes behind it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import yaml

from actors import broker
from tests.makers import SECRETS, until
from workers.dev.servers import free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = pytest.mark.skipif(
    NGINX is None and not os.environ.get("CI"), reason="nginx is not installed on this machine"
)


def configuration(root: Path, port: int, backends: list[int]) -> str:
    """The proxy's configuration of compose.yml, its addresses exchanged for this machine's."""
    content = yaml.safe_load((root / "compose.yml").read_text())["configs"]["nginx"]["content"]
    content = content.replace("$$", "$")
    for old, new in (
        (r"listen 8080;", f"listen 127.0.0.1:{port};"),
        (r"resolver 127\.0\.0\.11 [^;]*;", ""),
        (r"set \$web http://web:3000;", "set $web http://web;"),
    ):
        content, replaced = re.subn(old, new, content)
        assert replaced == 1, old
    servers = " ".join(f"server 127.0.0.1:{backend};" for backend in backends)
    paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{path}_temp_path {path};" for path in paths)
    return (
        "daemon off; error_log stderr; pid nginx.pid; events {} http { access_log off;"
        f" {folders} upstream web {{ {servers} }} {content} }}"
    )


@pytest.fixture(scope="module")
def proxy(
    root: Path, stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """nginx and what is behind it; `get` asks nginx, `kill` ends one of the web processes."""
    assert NGINX, "CI installs nginx"
    directory = tmp_path_factory.mktemp("nginx")
    port, *backends = free_port(), free_port(), free_port()
    # Other tests count against the same address.
    broker.current().client.flushdb()
    environment = {**os.environ, **SECRETS, **stores, "RATE_LIMIT_API": "1000/minute", "WEB_CONCURRENCY": "1"}
    environment["TRUSTED_PROXIES"] = "127.0.0.1"
    web = [sys.executable, "-m", "api"]
    (directory / "nginx.conf").write_text(configuration(root, port, backends))
    with (directory / "log").open("wb") as log:
        webs = [
            subprocess.Popen(web, env={**environment, "PORT": str(backend)}, stdout=log, stderr=log)
            for backend in backends
        ]
        nginx = subprocess.Popen([NGINX, "-p", directory, "-c", "nginx.conf"], stdout=log, stderr=log)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:

        def answers(url: str) -> bool:
            try:
                return http.get(url).status_code < 500
            except httpx.TransportError:
                return False

        try:
            for backend in backends:
                until(lambda: answers(f"http://127.0.0.1:{backend}/api/openapi.json"))  # noqa: B023
            until(lambda: answers("/api/openapi.json"))
            yield SimpleNamespace(http=http, webs=webs, log=directory / "log")
        finally:
            for process in [nginx, *webs]:
                process.terminate()
            for process in [nginx, *webs]:
                process.wait(30)


def test_only_the_proxy_states_the_client_address(proxy):
    headers = {"X-Forwarded-For": "203.0.113.9"}

    def counted_together() -> bool:
        answers = [proxy.http.get("/api/auth/me", headers=headers) for _ in range(3)]
        left = [int(answer.headers["RateLimit-Remaining"]) for answer in answers]
        return left == [left[0], left[0] - 1, left[0] - 2]

    # One count for the address that nginx saw, whatever the header says and whichever process answers. On a loaded
    # machine Redis may answer a process too late, which then counts alone for a second.
    until(counted_together)


def test_a_callers_request_id_goes_through(proxy):
    assert (
        proxy.http.get("/api/auth/me", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    )


def test_the_metrics_are_not_public(proxy):
    assert proxy.http.get("/metrics").status_code == 404
    assert proxy.http.get("/metrics/").status_code == 404


def test_a_refusal_by_nginx_has_the_error_envelope(proxy):
    answer = proxy.http.post("/api/auth/login", content=b"x" * (5 * 1024 * 1024 + 1))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"


def test_without_a_web_process_the_proxy_answers_503_until_one_is_back(proxy):
    first, second = proxy.webs
    first.terminate()
    first.wait(30)
    assert proxy.http.get("/api/auth/me").status_code == 401
    second.terminate()
    second.wait(30)
    answer = proxy.http.get("/api/auth/me")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert answer.headers["Retry-After"] == "1"
