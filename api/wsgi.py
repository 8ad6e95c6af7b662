"""Where the web process begins: reads the settings, names the stores, makes the application."""

from actors import broker, logs
from api.app import create_app
from api.settings import Settings
from db import postgres
from db.settings import or_exit

settings = or_exit(Settings)
logs.open(settings.log_level)
postgres.open(settings.database_url, connections=settings.database_pool)
broker.open(settings.redis_url, timeout=0.5)
application = create_app(settings)
