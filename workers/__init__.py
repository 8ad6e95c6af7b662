"""The processes that the Procfile names. No other package imports them."""

import db.core.lean_imports  # noqa: F401
