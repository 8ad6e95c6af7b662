"""Who leads, when of several processes only one may: whoever holds a lock on a connection of its own."""

from contextlib import suppress
from typing import Any

import psycopg2


class Leadership:
    """Lost with the connection, and free for another as soon as the holder dies."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self._connection: Any = None
        self._leads = False

    def held(self) -> bool:
        """Whether this process leads now; takes the lead when it is free."""
        try:
            if self._connection is None:
                self._connection = psycopg2.connect(self._url, connect_timeout=3)
                self._connection.autocommit = True
            with self._connection.cursor() as cursor:
                if self._leads:
                    # The lock is there as long as the connection is.
                    cursor.execute("SELECT 1")
                else:
                    cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (self._name,))
                    self._leads = bool(cursor.fetchone()[0])
        except psycopg2.Error:
            self.release()
        return self._leads

    def release(self) -> None:
        """Lets another lead."""
        self._leads = False
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None
