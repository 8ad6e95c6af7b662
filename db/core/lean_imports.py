"""Imports libraries without what they import too where it is installed, and which nothing here uses.

A process imports this module before any other imports these libraries. On a developer's machine, where
everything is installed, that saves a fifth of its memory.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

# What is left out, by the library that would import it: 4 MB for rich, 3 for OpenTelemetry (Redis's client
# would measure itself), 3 for gevent in a worker, 1 for sqlite3. Redis's client takes no memory for
# cryptography; but once anything has imported the package, it cannot be hidden from `jwt` (api/__main__.py).
UNUSED = {
    "structlog": {"rich"},
    "redis": {"opentelemetry", "cryptography"},
    "dramatiq": {"gevent"},
    "peewee": {"sqlite3"},
}


def import_without(library: str, unused: set[str]) -> None:
    """Imports a library as if these packages were not installed, except those that are imported already.

    Only at the start of a process: no thread can import the packages meanwhile.
    """
    hidden = unused - sys.modules.keys()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import_module(library)
    finally:
        for package in hidden:
            del sys.modules[package]


def _leave_out_asyncio() -> None:
    """Makes redis.asyncio a package that imports nothing by itself; `redis` needs one module in it.

    1.4 MB of a process that serves, which has 79 of 80.
    """
    spec = find_spec("redis")
    if "redis" not in sys.modules and spec and spec.submodule_search_locations:
        package = ModuleType("redis.asyncio")
        package.__path__ = [f"{folder}/asyncio" for folder in spec.submodule_search_locations]
        sys.modules["redis.asyncio"] = package


_leave_out_asyncio()
for _library, _unused in UNUSED.items():
    import_without(_library, _unused)
