"""The limits of this machine: bare Falcon on our web worker, and our own statements run by pgbench."""

import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.database import Database
from tests.bench.load import drive
from tests.bench.stack import SETTINGS, Paywright, Stores, launched
from tests.bench.targets import PAYMENT, Ours
from tests.makers import SECRETS
from workers.dev import servers
from workers.dev.servers import HOST, free_port

CLIENTS = 8
# The calls whose statements pgbench runs, and how often each is sent before its statements are recorded: by
# then every thread has prepared what it prepares, and knows whom it knows.
RECORDED, SENT_BEFORE = ("me", "get", "list", "create"), 100
ENTRY = re.compile(r"^\d{4}-\d\d-\d\d .*? \[\d+\] ", re.MULTILINE)
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# The statements with which this program starts and ends a record.
OWN = re.compile(r"log_statement|pg_reload_conf")
Run = Callable[[float], dict[str, Any]]


def start(
    running: ExitStack, stores: Stores, directory: Path, ours: Ours, stack: Paywright
) -> dict[str, dict[str, Run]]:
    """Returns what else answers each call, by call and program; it runs until `running` closes."""
    others: dict[str, dict[str, Run]] = {"health": {"bare Falcon": bare_falcon(running, directory, stack)}}
    pgbench = servers.postgres_bin() / "pgbench"
    if pgbench.exists():
        for name in RECORDED:
            script = directory / f"{name}.sql"
            script.write_text(_record(name, stores, ours, stack.database_url))
            others[name] = {"pgbench": partial(_pgbench, pgbench, script, stack.database_url)}
    return others


def bare_falcon(running: ExitStack, directory: Path, stack: Paywright) -> Run:
    """Starts Falcon with nothing to do on our web server; returns how it is put under load."""
    url = f"http://{HOST}:{(port := free_port())}"
    stores = {"DATABASE_URL": stack.database_url, "REDIS_URL": stack.redis_url}
    environ = {**SECRETS, **SETTINGS, **stores, "PORT": str(port)}
    command = [sys.executable, "-m", "tests.bench.falcon_app"]
    running.enter_context(launched(command, directory / "falcon.log", f"{url}/health", **environ))
    request = f"GET /health HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    return lambda seconds: drive(url, [request], expected='"ok"', connections=16, seconds=seconds).figures()


def _pgbench(program: Path, script: Path, url: str, seconds: float) -> dict[str, Any]:
    options = f"-n -M simple -c {CLIENTS} -j 1 -T {max(1, round(seconds))} -D prepared=0 -f {script}"
    done = subprocess.run([program, *options.split(), url], capture_output=True, text=True, check=False)
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        raise RuntimeError(f"pgbench {script.name}: {done.stderr[-1000:]}")
    return {"rate": float(found[1])}


def _record(name: str, stores: Stores, ours: Ours, database_url: str) -> str:
    """Sends a call, and returns the statements that it ran as a script of pgbench."""
    user, key = ours.readers[0], f"{secrets.randbelow(10**11):012}"
    path = {"me": "/auth/me", "get": f"/payments/{user.payments[0]}", "list": "/payments?limit=20"}.get(
        name, "/payments"
    )
    database, log = Database(database_url), stores.postgres.log

    def send(key: str) -> None:
        if name == "create":
            ours.call("POST", path, user, PAYMENT, **{"Idempotency-Key": key})
        else:
            ours.call("GET", path, user)

    for number in range(SENT_BEFORE):
        send(f"{key}-{number}")
    known = {
        row[0]
        for row in database.rows("SELECT id::text FROM auth.users UNION SELECT id::text FROM auth.sessions")
    }
    known |= set(user.payments)
    database.set("log_statement", "all")
    start = log.stat().st_size
    send(key)
    database.set("log_statement", "none")
    with log.open() as file:
        file.seek(start)
        entries = ENTRY.split(file.read())
    database.close()
    return _script(entries, known, key)


def _script(entries: list[str], known: set[str], key: str) -> str:
    """Returns a script of these entries of the log. What must be new each time gets a random number.

    pgbench replaces `:name` in texts, too.
    """
    prepared, statements = [], []
    for entry in entries:
        kind, _, text = entry.replace("\n\t", "\n").partition(":  ")
        if kind == "DETAIL" and text.startswith("prepare: "):
            prepared.append(text.removeprefix("prepare: ").strip().rstrip(";"))
        elif kind == "LOG" and text.startswith("statement: ") and not OWN.search(text):
            statements.append(text.removeprefix("statement: ").strip().rstrip(";"))
    body = ";\n".join(statements)
    new = sorted(set(UUID.findall(body)) - known)
    for number, id in enumerate(new):
        body = body.replace(id, f"{id[:24]}:n{number}")
    body = body.replace(key, ":key")
    names = [f"n{number}" for number in range(len(new))] + ["key"]
    variables = [f"\\set {name} random(100000000000, 999999999999)" for name in names]
    once = [
        "\\if :prepared = 0",
        *(f"{text};" for text in dict.fromkeys(prepared)),
        "\\set prepared 1",
        "\\endif",
    ]
    return "\n".join([*(once if prepared else []), *variables, body + ";", ""])
