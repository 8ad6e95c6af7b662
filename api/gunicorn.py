"""The web process, which `python -m api` starts: the configuration of gunicorn, and the application."""

import ctypes
import gc
import os
import resource
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import falcon

from actors import broker, tracing
from api import demo_users, forked, greenlets
from api.app import create_app
from api.http import admission
from api.middleware import access_log
from api.middleware.cors import Cors
from api.operations import request_counts
from api.security.hashing_processes import HashingProcesses
from api.settings import WebSettings
from api.worker import open_connections
from db import heartbeats, postgres, redis
from db.core import logs
from db.core.settings import exit_if_invalid

_MAX_DESCRIPTORS = 20_000
# Descriptors of a web process that are not client connections: stores, files, pipes.
_RESERVED_DESCRIPTORS = 200
_MIN_CONNECTIONS = 50

_settings = WebSettings.read_or_exit()
_redis = redis.connect(_settings.redis_url, timeout=redis.REQUEST_TIMEOUT_S)

bind = f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "api.worker.Worker"
# A connection costs a greenlet and a file descriptor. Its body may need a second descriptor,
# for a temporary file.
_hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
_descriptors = (
    _MAX_DESCRIPTORS if _hard_limit == resource.RLIM_INFINITY else min(_hard_limit, _MAX_DESCRIPTORS)
)
resource.setrlimit(resource.RLIMIT_NOFILE, (_descriptors, _hard_limit))
worker_connections = max(_descriptors // 2 - _RESERVED_DESCRIPTORS, _MIN_CONNECTIONS)
preload_app = True
# In seconds. Proxies (nginx, load balancers: 60) and clients (httpx: 5) send another request on a connection
# that was idle for a little less than their own limit. With a lower one here, it meets a closed connection,
# and nobody knows whether a POST was received.
keepalive = 75
# In seconds: longer than the read deadline of a request.
graceful_timeout = 20
# The headers of a peer must not change the path (SCRIPT_NAME) or the scheme. The client's address is read by
# api/middleware/request_context.py.
forwarder_headers = ""
forwarded_allow_ips = ""
# The application answers unknown methods itself, with a 405 that names the allowed ones.
permit_unconventional_http_method = True
# The heartbeat file must not be on a disk: a slow disk makes a worker look hung.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# The default is a socket in the home directory, shared by all installations of a user.
control_socket_disable = True
# The access log is written by api/middleware/access_log.py.
accesslog = None
logconfig_dict = logs.logging_config(_settings.log_level, _settings.log_format)


# The garbage collector's first threshold: objects created minus objects freed. With the default of 700, the
# collector took about a twentieth of the time of a list of payments.
_COLLECT_AFTER = 10_000

_libc = ctypes.CDLL(None)


def _trim() -> None:
    """Gives unused memory back to the system, in a fifth of a millisecond."""
    with suppress(AttributeError):  # Another C library has no malloc_trim.
        _libc.malloc_trim(0)


def _keep_beating() -> None:
    while True:
        heartbeats.beat(_redis, [], type="web")
        _trim()
        time.sleep(heartbeats.INTERVAL_S)


def load() -> falcon.App:  # type: ignore[type-arg]
    """Configures the logs and the stores, and returns the application."""
    logs.configure(_settings.log_level, _settings.log_format)
    greenlets.use()
    postgres.configure(_settings.database_url, connections=_settings.database_pool)
    broker.configure(_settings.redis_url, timeout=redis.REQUEST_TIMEOUT_S)
    forked.compute(_check_demo_users)
    hashing = HashingProcesses(max(1, (os.cpu_count() or 1) // _settings.web_concurrency))
    return create_app(_settings, preload_document=True, hash_password=hashing.hash)


def _check_demo_users() -> None:
    with exit_if_invalid():
        demo_users.check(_settings)


def when_ready(_server: Any) -> None:
    """Excludes all that was loaded from garbage collection: a pass took 50 ms, in which no request ran.

    Memory that only loading needed is given back before the processes are forked.
    """
    gc.collect()
    _trim()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])


def pre_fork(_server: Any, worker: Any) -> None:
    """Counts the connections of a new process from zero, and passes on which origins may read its errors."""
    worker.place = open_connections.take_place()
    worker.cors = Cors(_settings.cors_origins)


def child_exit(_server: Any, worker: Any) -> None:
    """Gives the place of a process that has ended to the next one."""
    open_connections.leave_place(worker.place)


def post_worker_init(_worker: Any) -> None:
    """Drops the parent's connections, which a forked worker must not use, and starts the worker's threads."""
    postgres.database.dispose()
    admission.execute_at_most(_settings.database_pool)
    request_counts.start(_redis)
    access_log.start()
    threading.Thread(target=_keep_beating, name="heartbeat", daemon=True).start()
    tracing.start(_settings.otel_exporter_otlp_endpoint, "web")
    if not _settings.media_url.startswith("file:"):
        greenlets.start_asyncio()


def worker_exit(_server: Any, _worker: Any) -> None:
    """Writes the log lines and counts that still wait, and removes the process from the live ones."""
    access_log.flush()
    request_counts.flush(_redis)
    heartbeats.leave(_redis, [], type="web")
    tracing.stop()
