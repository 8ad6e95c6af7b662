"""When the stack answers: the file other tools read, and what the developer sees."""

import http.client
import os
import shlex

from workers.dev import state
from workers.dev.output import Output
from workers.dev.settings import Settings
from workers.dev.stack import DEMO_USERS, Plan
from workers.dev.supervisor import Child, Stop

DEMO_PASSWORD = "Paywright-demo-1"


def forget(chosen: Settings) -> None:
    """There is a stack.env only while there is a stack."""
    (chosen.data / "stack.env").unlink(missing_ok=True)


def seeded(seed: Child | None) -> bool:
    """Raises Stop with the seed's own last words."""
    if seed and seed.code:
        raise Stop(seed.code if seed.code == 2 else 1, f"seed: {seed.last or f'ended with {seed.code}'}")
    return seed is None or seed.code == 0


def healthy(planned: Plan) -> bool:
    if not any(name.startswith("web.") for name in planned.settings.processes):
        return True
    host, port = planned.settings.reachable.strip("[]"), int(planned.environ["PORT"])
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def announce(output: Output, planned: Plan) -> None:
    path = planned.settings.data / "stack.env"
    names = ("DATABASE_URL", "REDIS_URL")
    values = {"BASE_URL": planned.base_url, **{name: planned.environ[name] for name in names}}
    state.write(path, "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()))
    bold, plain = ("\033[1m", "\033[0m") if output.colours else ("", "")
    root, base = planned.settings.root, planned.base_url
    login = f'{{"email":"{DEMO_USERS[2]}","password":"{DEMO_PASSWORD}"}}'
    users = f"""
  users     {"  ".join(DEMO_USERS)}
  password  {DEMO_PASSWORD}

  curl -s {base}/api/auth/login -H 'Content-Type: application/json' \\
    -d '{login}'
"""
    output.say(f"""
  {bold}Paywright is ready: {base}/api{plain}

  docs      {base}/api/docs and README.md
  data      {os.path.relpath(planned.settings.data, root)}, kept between starts
  for tools {os.path.relpath(path, root)} holds BASE_URL, DATABASE_URL and REDIS_URL\
{"" if planned.settings.production else users}
  {bold}make demo{plain} shows the life of a payment, {bold}Ctrl-C{plain} stops everything
""")
