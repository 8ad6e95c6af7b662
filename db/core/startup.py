"""The start of a process: an invalid setting ends it with status 2 and one line on stderr.

It belongs to no layer: the entry points of `api`, `workers` and `db` share it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from db.core.settings import InvalidSetting, StoreSettings

S = TypeVar("S", bound=StoreSettings)


@contextmanager
def exit_if_invalid() -> Iterator[None]:
    """Ends the process where the block raises InvalidSetting."""
    try:
        yield
    except InvalidSetting as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def read_or_exit(settings_class: type[S]) -> S:
    """Reads the settings of an entry point from the environment, or ends the process."""
    with exit_if_invalid():
        return settings_class.read()
