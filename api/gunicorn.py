"""How gunicorn runs the web process, which `python -m api` starts."""

import resource
from pathlib import Path
from typing import Any

from api.http import admission
from api.operations import request_counts
from api.payments import prefer_wait, status_changes
from api.profile import avatar
from api.settings import WebSettings
from db import postgres, redis
from db.core import logs
from db.core.settings import read_or_exit

_MOST_DESCRIPTORS = 20_000
# Those of a web process that are no client's: stores, files, pipes.
_OTHER_DESCRIPTORS = 200
_FEWEST_CONNECTIONS = 50
# Threads that are left when all those wait that may.
_NEVER_WAITING = 8

_settings = read_or_exit(WebSettings)

bind = f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "api.worker.Worker"
# As many as may wait for something, and some more: requests that wait must not hold every thread.
threads = (
    prefer_wait.WAITING_REQUESTS
    + status_changes.WAITING_INQUIRIES
    + avatar.MAX_DECODERS
    + admission.MAX_PATIENT
    + _NEVER_WAITING
)
# A connection is a greenlet and a file descriptor, and no thread; its body may wait in a file.
_hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
_descriptors = _MOST_DESCRIPTORS if _hard == resource.RLIM_INFINITY else min(_hard, _MOST_DESCRIPTORS)
resource.setrlimit(resource.RLIMIT_NOFILE, (_descriptors, _hard))
worker_connections = max(_descriptors // 2 - _OTHER_DESCRIPTORS, _FEWEST_CONNECTIONS)
preload_app = True
keepalive = 5
# Longer than a request may take to be complete.
graceful_timeout = 20
# A peer's headers say nothing of the path (SCRIPT_NAME) or of the scheme; of addresses, see address.py.
forwarder_headers = ""
forwarded_allow_ips = ""
# The application answers them with a 405 that says what is known.
permit_unconventional_http_method = True
# Its heartbeat file must not be on a disk: a slow one looks like a hung worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# By default a socket in the home directory that all installations of a user would share.
control_socket_disable = True
# The gateway writes the access log.
accesslog = None
logconfig_dict = logs.logging_config(_settings.log_level)


def post_fork(_server: Any, _worker: Any) -> None:
    """A forked worker must not speak on its parent's connections; what it counts, it hands on itself."""
    postgres.database.dispose()
    request_counts.start(redis.connect(_settings.redis_url, timeout=redis.REQUEST_TIMEOUT_S))
