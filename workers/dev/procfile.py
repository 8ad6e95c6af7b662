"""The Procfile: which process types there are, and how many of each."""

import re
import shlex
from collections.abc import Mapping

LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")


def parse(text: str) -> dict[str, str]:
    """Name and command of each process type but `release`, a deployment's; raises ValueError."""
    kinds: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if (match := LINE.fullmatch(line.strip())) is None or match[1] in kinds:
            raise ValueError(f"Procfile: line {number} is not a new `name: command`")
        try:
            argv(match[2])
        except ValueError as error:
            raise ValueError(f"Procfile: line {number}: {error}") from None
        kinds[match[1]] = match[2]
    kinds.pop("release", None)
    if not kinds:
        raise ValueError("Procfile: there is no process type in it")
    return kinds


def scaled(kinds: Mapping[str, str], wanted: str) -> dict[str, str]:
    """`web.1`, `web.2`, … and their commands; `wanted` as in `payments=2,psp=0`; raises ValueError."""
    numbers = dict.fromkeys(kinds, 1)
    for part in filter(None, (part.strip() for part in wanted.split(","))):
        name, _, number = part.partition("=")
        if name not in kinds:
            raise ValueError(f"PROCESSES: {name!r} is not in the Procfile")
        if not (number.isascii() and number.isdigit()):
            raise ValueError(f"PROCESSES: {part!r} is not name=number")
        numbers[name] = int(number)
    return {f"{name}.{n}": kinds[name] for name in kinds for n in range(1, numbers[name] + 1)}


def argv(command: str) -> list[str]:
    """The shell for its variables, but replaced by the process, which is to get our signals itself.

    A compound command keeps its shell. Raises ValueError: a quotation without an end.
    """
    lexer = shlex.shlex(command, punctuation_chars=";&|")
    lexer.commenters = ""
    compound = re.match(r"\w+=", command) or any(set(token) <= set(";&|") for token in lexer)
    return ["/bin/sh", "-c", command if compound else f"exec {command}"]
