"""Starts the web process: `python -m api`.

The settings are checked before gunicorn starts: it reads WEB_CONCURRENCY itself while it is imported, and a
value that is not a number would end in a traceback.
"""

import os
import sys

from api.settings import WebSettings
from db.core.startup import read_or_exit

_COMMAND = (sys.executable, "-m", "gunicorn", "--config", "python:api.gunicorn", "api.wsgi:application")

if __name__ == "__main__":
    read_or_exit(WebSettings)
    os.execv(sys.executable, _COMMAND)
