"""The door: sentences in HTTP, and the verbs that must answer now."""

import tomllib
from pathlib import Path

_PROJECT = Path(__file__).parents[1] / "pyproject.toml"

# The application runs from its checkout: the version of the project is the version of the API.
VERSION: str = tomllib.loads(_PROJECT.read_text())["project"]["version"]
