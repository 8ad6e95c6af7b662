"""Where the web process begins: reads the settings, names the stores, makes the application."""

import sys

from actors import broker
from api import demo_users
from api.app import create_app
from api.settings import WebSettings
from db import postgres, redis
from db.core import logs
from db.core.settings import InvalidSetting, read_or_exit

settings = read_or_exit(WebSettings)
logs.configure(settings.log_level, settings.log_format)
postgres.configure(settings.database_url, connections=settings.database_pool)
broker.configure(settings.redis_url, timeout=redis.REQUEST_TIMEOUT_S)
try:
    demo_users.check(settings)
except InvalidSetting as wrong:
    sys.stderr.write(f"{wrong}\n")
    sys.exit(2)
# The document is drawn before the workers fork: no request waits for it, and it is in memory once.
application = create_app(settings, draw=True)
