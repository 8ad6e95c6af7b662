"""Imports libraries without what they import too where it is installed, and which nothing here uses.

A process imports this module before any other imports these libraries. On a developer's machine, where
everything is installed, that saves a fifth of its memory.
"""

import sys
from importlib import import_module

# What is left out, by the library that would import it. Redis's client would measure itself with
# OpenTelemetry, and check certificates by OCSP.
UNUSED = {
    "structlog": {"rich"},
    "redis": {"opentelemetry", "cryptography"},
    "dramatiq": {"gevent"},
    "peewee": {"sqlite3"},
}


def import_without(library: str, unused: set[str]) -> None:
    """Imports a library as if these packages were not installed, except those that are imported already."""
    hidden = unused - sys.modules.keys()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import_module(library)
    finally:
        for package in hidden:
            del sys.modules[package]


for _library, _unused in UNUSED.items():
    import_without(_library, _unused)
