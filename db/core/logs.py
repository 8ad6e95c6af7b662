"""The log of every process on standard output: one JSON object a line, or lines for people (LOG_FORMAT)."""

import logging
import logging.config
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic_core import to_json
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, LogLevelColumnFormatter
from structlog.types import EventDict, Processor

from db.core import request_context

_NAME_WIDTH = 12
_EVENT_WIDTH = 30

_process = {"process": os.environ["PROCESS_NAME"]} if os.environ.get("PROCESS_NAME") else {}
_format = ""

log = structlog.get_logger(__name__)


def logging_config(level: str, log_format: str = "json") -> dict[str, Any]:
    """Returns the configuration of `logging.config.dictConfig` for our lines and those of the libraries.

    `log_format` is `json` or `console`. Each line carries the environment's PROCESS_NAME, such as
    `payments.1`.
    """
    line = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(log_format)]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _processors(log_format),
                "processors": line,
            }
        },
        "handlers": {
            "stdout": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stdout"}
        },
        "root": {"handlers": ["stdout"], "level": level},
        "loggers": {
            # They log each run of a job and each message at INFO.
            "apscheduler": {"level": "WARNING"},
            "peewee": {"level": "WARNING"},
            # Replaces the handlers that gunicorn adds.
            "gunicorn.error": {"handlers": ["stdout"], "propagate": False},
        },
    }


def configure(level: str, log_format: str = "json") -> None:
    """Sets up logging for this process; the arguments are those of `logging_config`."""
    global _format
    _format = log_format
    logging.config.dictConfig(logging_config(level, log_format))
    structlog.configure(
        processors=[_from_level(level), *_processors(log_format), _renderer(log_format)],
        wrapper_class=structlog.stdlib.BoundLogger,
        # Not through `logging`, which would double the time of each line.
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )


class _Lines(structlog.WriteLogger):
    """Writes rendered lines of one logger to standard output; drops those that cannot be written."""

    def __init__(self, name: str) -> None:
        super().__init__(sys.stdout)
        self.name = name

    def msg(self, message: str) -> None:
        """Writes a line; does nothing if the disk is full: that must not roll back what the line reports."""
        with suppress(OSError):
            super().msg(message)

    debug = info = warning = error = critical = exception = msg


def _from_level(level: str) -> Processor:
    levels = logging.getLevelNamesMapping()

    def drop_below(_logger: Any, method: str, event: EventDict) -> EventDict:
        # `exception` is no level: it writes an error.
        if method != "exception" and levels[method.upper()] < levels[level]:
            raise structlog.DropEvent
        return event

    return drop_below


def _renderer(log_format: str) -> Processor:
    return _console_renderer() if log_format == "console" else structlog.processors.JSONRenderer()


def writes_json() -> bool:
    """Returns whether lines of the level INFO are written, as JSON."""
    root = logging.getLogger()
    return _format == "json" and root.isEnabledFor(logging.INFO)


def json_line(logger: str, event: str, fields: Mapping[str, Any]) -> str:
    """Returns the line of `structlog.get_logger(logger).info(event, **fields)`, in a tenth of the time."""
    context = request_context.current()
    line = {
        **fields,
        "event": event,
        "request_id": context.request_id,
        "trace_id": context.trace_id,
        "level": "info",
        **_process,
        "logger": logger,
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    return to_json(line).decode() + "\n"


def _add_context(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Adds the ids of the current request and of its trace, and the name of the process."""
    context = request_context.current()
    if context.request_id is not None:
        event.setdefault("request_id", context.request_id)
        event.setdefault("trace_id", context.trace_id)
    event.update(_process)
    return event


def _processors(log_format: str) -> list[Processor]:
    """Returns the processors of every line, up to its renderer."""
    processors: list[Processor] = [_add_context, structlog.stdlib.add_log_level]
    if log_format == "console":
        return [*processors, structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False), _for_people]
    return [
        *processors,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]


def _for_people(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Shortens the long fields, and leaves out the fields without a value."""
    short = {"timestamp": event["timestamp"][: len("23:59:59.999")], "trace_id": None}
    if request_id := event.get("request_id"):
        short["request_id"] = str(request_id)[: len("9462d1d7")]
    return {name: value for name, value in {**event, **short}.items() if value is not None}


def _console_renderer() -> ConsoleRenderer:
    """Returns a renderer of time, process, level, message, fields; in colour on a terminal."""
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    styles = ConsoleRenderer.get_default_column_styles(colours)
    levels = ConsoleRenderer.get_default_level_styles(colours)

    def column(name: str, style: str, width: int = 0) -> Column:
        return Column(name, KeyValueColumnFormatter(None, style, styles.reset, value_repr=str, width=width))

    return ConsoleRenderer(
        columns=[
            column("timestamp", styles.timestamp),
            column("process", styles.logger_name, _NAME_WIDTH),
            Column("level", LogLevelColumnFormatter(levels, styles.reset)),
            column("event", styles.bright, _EVENT_WIDTH),
            Column("", KeyValueColumnFormatter(styles.kv_key, styles.kv_value, styles.reset, value_repr=str)),
        ],
        exception_formatter=structlog.dev.plain_traceback,
    )


class Outage:
    """Logs an outage of something that a loop needs: one line at its beginning, one at its end."""

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
