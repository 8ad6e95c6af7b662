"""The Procfile: a line `name: command` for each type of process."""

from pathlib import Path

from db.core.settings import InvalidSetting


def commands() -> dict[str, str]:
    """Returns the commands by the names of their processes. Raises InvalidSetting."""
    found = {}
    for line in Path("Procfile").read_text().splitlines():
        name, _, command = map(str.strip, line.partition(":"))
        if name and not name.startswith("#"):
            if not command:
                raise InvalidSetting(f"Procfile: {line!r} is not `name: command`")
            found[name] = command
    return found
