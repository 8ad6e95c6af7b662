"""Outages: logged once when they begin and once when they end, not at every attempt in between."""

import structlog

log = structlog.get_logger(__name__)


class Outage:
    """The availability of something that a loop needs, as the log shows it."""

    def __init__(self, needed: str, **fields: object) -> None:
        self._needed, self._fields = needed, fields
        self._ongoing = False

    def began(self, error: BaseException) -> None:
        """Logs the error, if it is the first one."""
        if not self._ongoing:
            log.warning(f"{self._needed} unavailable", error=str(error).strip(), **self._fields)
        self._ongoing = True

    def ended(self) -> None:
        """Logs the end of an outage, if there was one."""
        if self._ongoing:
            log.info(f"{self._needed} available again", **self._fields)
        self._ongoing = False
