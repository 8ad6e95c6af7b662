"""Sends many requests over kept-alive connections and looks at every response: by wrk, or in Python without it."""

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

# Stands in a request for a value that differs each time; as long as what replaces it, so that lengths stay right.
UNIQUE = "@UNIQUE-IN-EACH-ONE"
TAG_BYTES = 12
# Stands in a request for a refresh token: each response has the next one.
CARRIED = "@CARRIED-FROM-A-RESPONSE"
WRK = shutil.which("wrk")
SCRIPT = Path(__file__).with_name("wrk.lua")
# Beyond the run itself, for responses that are late.
MARGIN_S = 60


class LoadFailed(Exception):
    """A response was wrong or missing; the message is one line."""


@dataclass(frozen=True)
class Load:
    """What one run has sent and got. Times in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p95: float
    p99: float

    @property
    def rate(self) -> float:
        """Returns how many requests were answered a second."""
        return self.requests / self.seconds

    def figures(self) -> dict[str, float]:
        """Returns everything as it is stored."""
        return asdict(self) | {"rate": self.rate}


def drive(
    url: str,
    requests: Sequence[str],
    *,
    expected: str,
    connections: int,
    seconds: float,
    carried: Sequence[str] = (),
    python: bool = not WRK,
) -> Load:
    """Sends these requests in turn for so long. Raises LoadFailed at a status or content that is not expected."""
    address = urlsplit(url)
    if address.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise LoadFailed(f"{address.hostname} is not this machine")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requests")
        file.write_bytes("\0".join(requests).encode() + b"\0")
        tokens = Path(folder, "carried")
        tokens.write_text("\n".join(carried))
        tag = secrets.token_hex(TAG_BYTES // 2)
        words = [str(file), str(tokens), tag, UNIQUE, CARRIED, expected]
        if python:
            program = [sys.executable, str(Path(__file__).with_name("python_load.py"))]
            command = [*program, url, str(connections), str(seconds), *words]
        else:
            options = f"-t1 -c{connections} -d{max(1, round(seconds))}s --timeout 20s -s {SCRIPT} {url}/ --"
            command = ["wrk", *options.split(), *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + MARGIN_S, check=False
        )
    line = next((line[5:] for line in done.stdout.splitlines() if line.startswith("LOAD ")), None)
    if line is None:
        raise LoadFailed(f"{command[0]} failed: {(done.stdout + done.stderr)[-500:]}")
    counts = json.loads(line)
    if counts["bad"] or counts["lost"] or not counts["ok"]:
        raise LoadFailed(f"{requests[0].splitlines()[0]}: {counts}")
    times = (counts[name] / 1000 for name in ("p50", "p95", "p99"))
    return Load(counts["ok"], counts["us"] / 1e6, *times)
