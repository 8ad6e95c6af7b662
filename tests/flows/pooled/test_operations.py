"""What docs/operations says: the commands of the runbook are typed at a stack, nginx accepts its configuration."""

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.flows.conftest import Stack
from tests.makers import SECRETS
from workers.dev import servers

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def needs(program: str | None, name: str) -> pytest.MarkDecorator:
    missing = program is None and not os.environ.get("CI")
    return pytest.mark.skipif(missing, reason=f"{name} is not installed on this machine")


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


@needs(shutil.which("curl"), "curl")
def test_every_command_of_the_runbook_runs(stack: Stack, root: Path):
    environment = {
        **{**os.environ, **SECRETS},
        **{"DATABASE_URL": stack.postgres.url, "REDIS_URL": stack.valkey.url},
        **{"BASE_URL": f"http://127.0.0.1:{stack.port}", "DATA_DIR": str(stack.directory)},
        "PATH": f"{Path(sys.executable).parent}:{servers.postgres_bin()}:{os.environ['PATH']}",
    }
    token = [sys.executable, "-m", "workers.dev.demo.token", "admin"]
    environment["TOKEN"] = subprocess.check_output(token, env=environment, text=True).strip()
    typed = commands(root / "docs/operations/runbook.md")
    assert len(typed) > 15
    script = "set -eu\n" + "\n".join(f"echo '+ {number}'\n{command}" for number, command in enumerate(typed))
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    failed = typed[int(re.findall(r"^\+ (\d+)$", ran.stdout, re.MULTILINE)[-1])]
    assert ran.returncode == 0, f"{failed}: {ran.stderr}"


@pytest.fixture
def proxy_configuration(root: Path, tmp_path: Path) -> str:
    """The proxy's configuration of the documents, with a certificate of its own, and its ports as they are."""
    page = (root / "docs/operations/going-to-production.md").read_text()
    [content] = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pay.bank.example")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, today, today + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    (tmp_path / "pay.bank.example.crt").write_bytes(certificate)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "pay.bank.example.key").write_bytes(private)
    return content.replace("/etc/nginx/", f"{tmp_path}/")


@needs(NGINX, "nginx")
def test_nginx_accepts_the_configuration_of_the_documents(tmp_path: Path, proxy_configuration: str):
    assert NGINX, "CI installs nginx"
    config = tmp_path / "nginx.conf"
    config.write_text(f"error_log stderr; pid {tmp_path}/pid; events {{}} http {{ {proxy_configuration} }}")
    command = [NGINX, "-t", "-q", "-p", str(tmp_path), "-c", str(config)]
    tested = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (tested.returncode, tested.stderr) == (0, "")


def test_the_proxy_hides_the_metrics_and_passes_streams_on(proxy_configuration: str):
    assert "location = /metrics { return 404; }" in proxy_configuration
    [streams] = re.findall(r"location ~ (\S+) \{\n(.*?)\n    \}", proxy_configuration, re.DOTALL)
    assert "proxy_buffering off;" in streams[1]
    for path in ("/api/events/stream", "/console/events"):
        assert re.search(streams[0], path)
