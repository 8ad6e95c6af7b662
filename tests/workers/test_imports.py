"""What a process loads: not what it never uses, although a developer's machine has it installed."""

import json
import subprocess
import sys

import pytest

LOADED = """
import json, sys
unused = {"rich", "opentelemetry", "sqlite3", "gevent", "cryptography", "pygal", "redis.asyncio.client", "fsspec"}
unused |= {"redis.cluster", "redis.commands.cluster", "redis.keyspace_notifications"}
# Whatever is imported from a placeholder, which has no file, is None.
print(json.dumps(sorted(name for name in unused if getattr(sys.modules.get(name), "__file__", None))))
"""
WORKER = "import workers.main\nfrom actors import jobs\njobs.load_all()\n"
WEB = "import api.__main__, api.app\n"


@pytest.mark.parametrize(
    ("imports", "environ", "loaded"),
    [
        (WORKER, {}, []),
        ("import workers.relay, workers.scheduler, workers.subscribers\n", {}, []),
        (WEB, {}, ["gevent"]),
        (WEB, {"JWT_ED25519": "a key"}, ["cryptography", "gevent"]),
    ],
)
def test_a_process_loads_no_package_that_it_never_uses(root, imports, environ, loaded):
    done = subprocess.run(
        [sys.executable, "-c", imports + LOADED], cwd=root, env=environ, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == loaded
