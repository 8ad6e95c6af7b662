"""`make run`: starts everything that Paywright needs on this machine, until Ctrl-C."""

import os
import shlex
import signal
import sys
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from db import migrate, postgres, redis
from db.core import logs
from db.core.settings import InvalidSetting, StoreSettings
from db.demo_users import DEMO_NAMES, DEMO_PASSWORD, demo_email
from workers.dev import Failure, processes, stack
from workers.dev.demo.faults import Faults
from workers.dev.supervisor import INVALID_SETTING, Supervisor

READY = """
  Paywright is ready: {base}/api
  console   {base}/console, where a demo user is one click away
  docs      {base}/api/docs and README.md
  data      {data}, kept between starts, with the logs of the servers
  for tools {data}/stack.env holds BASE_URL, DATABASE_URL and REDIS_URL
  users     {users}
  `make demo` shows the life of a payment, Ctrl-C stops everything
"""
USERS = f"""{", ".join(map(demo_email, DEMO_NAMES))}
  password  {DEMO_PASSWORD}
  try       curl -s {{base}}/api/auth/me -H "Authorization: Bearer $(make -s token)"
"""


def main() -> int:
    """Runs the command. Returns 0 after Ctrl-C, 2 for an invalid setting, 1 for any other failure."""
    if "MAKELEVEL" in os.environ:  # a killed make takes its launcher with it
        processes.end_with_parent(signal.SIGTERM)
    try:
        settings = stack.settings(Path(".env"), os.environ)
        os.environ.update(settings)  # .env may set PG_BIN and VALKEY_BIN
        data = Path(settings.get("DATA_DIR") or ".data").resolve()
        with stack.locked(data):
            run(stack.Stack(data, settings, console=os.isatty(1)))
    except (Failure, InvalidSetting, OSError) as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return INVALID_SETTING if isinstance(error, InvalidSetting) else 1
    except KeyboardInterrupt:
        pass
    return 0


def run(planned: stack.Stack) -> None:
    """Starts everything and keeps it running. Raises Failure, InvalidSetting, KeyboardInterrupt."""
    settings = StoreSettings.read(planned.environ)
    logs.configure(settings.log_level, settings.log_format)
    stack_file = planned.data / "stack.env"
    stack_file.unlink(missing_ok=True)
    supervisor = Supervisor(planned.data / "pids.json")
    try:
        for server in planned.servers:
            server.start()
            supervisor.keep(server.name, server.spawn, server.process)
        _migrate(settings)
        if not planned.production:  # the password of the demo users is public
            if status := planned.spawn("seed", [sys.executable, "-m", "api.cli", "seed"]).wait():
                sys.exit(status)  # it has printed the reason
            Faults(planned.data, supervisor).listen()
        for name, command in planned.commands.items():
            # A simple command replaces its shell, so that it gets our signals.
            words = command if set(command) & set(";&|") else f"exec env {command}"
            supervisor.keep(name, partial(planned.spawn, name, ["/bin/sh", "-c", words]))
        base = planned.environ["BASE_URL"]
        if "web.1" in planned.commands:
            supervisor.wait(until=lambda: _is_healthy(base))
        tools = {"BASE_URL": base, "DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
        stack.write(stack_file, "".join(f"{name}={shlex.quote(url)}\n" for name, url in tools.items()))
        text = READY.replace("{users}", "made by a command\n" if planned.production else USERS)
        os.write(1, text.format(base=base, data=os.path.relpath(planned.data)).encode())
        supervisor.wait()
    finally:
        stack_file.unlink(missing_ok=True)
        supervisor.stop(planned.servers)


def _migrate(settings: StoreSettings) -> None:
    """Brings the schema up to date, if both stores answer. Raises Failure, InvalidSetting."""
    try:
        redis.connect(settings.redis_url, timeout=5).ping()
        migrate.up(settings.database_url)
    except redis.Unreachable as error:
        raise InvalidSetting(f"REDIS_URL: {error}") from None
    except postgres.DatabaseUnavailable as error:
        raise InvalidSetting(f"DATABASE_URL: {error}") from None
    except Exception as error:
        raise Failure(f"db.migrate: {type(error).__name__}: {str(error).partition(chr(10))[0]}") from None


def _is_healthy(base_url: str) -> bool:
    try:
        # The environment's proxy does not lead to this machine.
        with build_opener(ProxyHandler({})).open(f"{base_url}/health", timeout=1):
            return True
    except (OSError, HTTPException):
        return False


if __name__ == "__main__":
    sys.exit(main())
