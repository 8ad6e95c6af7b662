"""Where the web process begins: `python -m api`.

gunicorn itself reads WEB_CONCURRENCY while it is imported, with a traceback for what is no number: all
settings are looked at before.
"""

import os
import sys

from api.settings import Settings
from db.core.settings import or_exit

_COMMAND = (sys.executable, "-m", "gunicorn", "--config", "python:api.gunicorn", "api.wsgi:application")

if __name__ == "__main__":
    or_exit(Settings)
    os.execv(sys.executable, _COMMAND)
