"""The log lines: JSON for programs, lines for people."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from db.core.settings import InvalidSetting, StoreSettings

FULL = Path("/dev/full")
CODE = """
import logging, sys, structlog
from db.core import logs
logs.configure("INFO", sys.argv[1])
log = structlog.get_logger("a")
log.debug("below the level", payment="p-1")
log.info("payment completed", payment="p-1", reason=None)
logging.getLogger("library").warning("slow: %d s", 3)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a job failed")
"""


@pytest.fixture
def lines(root):
    def printed(log_format: str) -> list[str]:
        command = [sys.executable, "-c", CODE, log_format]
        env = os.environ | {"PROCESS_NAME": "payments.1"}
        return subprocess.check_output(command, cwd=root, env=env, text=True).splitlines()

    return printed


def test_json_is_one_object_a_line_ours_and_the_libraries(lines):
    ours, library, error = map(json.loads, lines("json"))
    assert ours["event"] == "payment completed"
    assert (ours["process"], ours["level"], ours["payment"]) == ("payments.1", "info", "p-1")
    assert (library["event"], library["process"], library["level"]) == ("slow: 3 s", "payments.1", "warning")
    assert "ZeroDivisionError" in error["exception"]


def test_the_console_shows_time_process_level_message_and_the_fields_with_a_value(lines):
    ours, library, error, *traceback = lines("console")
    start = r"\d\d:\d\d:\d\d\.\d\d\d payments\.1 +"
    assert re.fullmatch(start + r"\[info +\] payment completed +payment=p-1", ours)
    assert re.fullmatch(start + r"\[warning +\] slow: 3 s *", library)
    assert re.fullmatch(start + r"\[error +\] a job failed *", error)
    assert traceback[-1] == "ZeroDivisionError: division by zero"


def test_another_format_stops_the_start_with_its_name():
    stores = {"DATABASE_URL": "postgresql://db/x", "REDIS_URL": "redis://redis/0"}
    assert StoreSettings.read(stores).log_format == "json"
    with pytest.raises(InvalidSetting, match=r"^invalid setting: LOG_FORMAT: "):
        StoreSettings.read({**stores, "LOG_FORMAT": "xml"})


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_a_line_that_cannot_be_written_raises_nothing(root):
    code = (
        "import os, structlog\n"
        "from db.core import logs\n"
        "logs.configure('INFO', 'json')\n"
        "for _ in range(3):\n"
        "    structlog.get_logger('a').info('payment completed')\n"
        "    structlog.get_logger('a').error('payment lost')\n"
        "os._exit(0)\n"
    )
    command = [sys.executable, "-c", code]
    with FULL.open("w") as full:
        done = subprocess.run(command, check=False, cwd=root, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
