"""Where the web process begins: `python -m api`.

gunicorn itself reads WEB_CONCURRENCY while it is imported, with a traceback for what is no number: all
settings are looked at before.
"""

import os
import sys

from api.settings import WebSettings
from db.core.settings import read_or_exit

_COMMAND = (sys.executable, "-m", "gunicorn", "--config", "python:api.gunicorn", "api.wsgi:application")

if __name__ == "__main__":
    read_or_exit(WebSettings)
    os.execv(sys.executable, _COMMAND)
