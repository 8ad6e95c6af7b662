"""Starts the web process: `python -m api`.

The standard library is patched so that a wait lets other greenlets run. That comes before all other imports:
greenlets would share a lock or a thread-local that exists already.
"""

# ruff: noqa: E402
from gevent import monkey

# gunicorn's master forks, waits for signals and reaps, without greenlets.
monkey.patch_all(os=False, signal=False, queue=False)

import os
import sys
import threading

from gevent.lock import BoundedSemaphore, Semaphore

# gevent's semaphores are compiled; those of the standard library are Python code around the patched locks.
threading.Semaphore = Semaphore  # type: ignore[misc]
threading.BoundedSemaphore = BoundedSemaphore  # type: ignore[misc]

from db.core import lean_imports

# Saves eight megabytes, which only Ed25519 signatures need.
if not os.environ.get("JWT_ED25519"):
    lean_imports.import_without("jwt", {"cryptography"})

# Before other libraries: zxcvbn's dictionaries take 13 MB until they are hashed. Libraries that are imported
# afterwards reuse that memory; freed later, 4 MB of it would stay with the process.
import api.security.passwords  # noqa: F401
from api.settings import WebSettings

if __name__ == "__main__":
    # gunicorn reads WEB_CONCURRENCY itself while it is imported: a value that is not a number would end in a
    # traceback.
    WebSettings.read_or_exit()
    from gunicorn.app.wsgiapp import WSGIApplication

    sys.argv[1:] = ["--config", "python:api.gunicorn", "api.gunicorn:load()"]
    WSGIApplication().run()
