"""The WSGI entry point: reads the settings, configures logs and stores, creates the application."""

from actors import broker
from api import demo_users, greenlets
from api.app import create_app
from api.settings import WebSettings
from db import postgres, redis
from db.core import logs
from db.core.settings import exit_if_invalid

settings = WebSettings.read_or_exit()
logs.configure(settings.log_level, settings.log_format)
greenlets.use(processes=settings.web_concurrency)
postgres.configure(settings.database_url, connections=settings.database_pool)
broker.configure(settings.redis_url, timeout=redis.REQUEST_TIMEOUT_S)
with exit_if_invalid():
    demo_users.check(settings)
# The OpenAPI document is built before the workers fork: no request waits for it, and all workers share its
# memory.
application = create_app(settings, preload_document=True, compute=greenlets.compute)
