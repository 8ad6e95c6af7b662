"""Imports libraries without their optional dependencies that nothing here uses.

An entry point imports this module before any module that imports these libraries. On a developer's machine,
where everything is installed, that saves a fifth of a process's memory.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

# Parts of Redis's client for a cluster of servers: 0.8 MB. The client takes names from them and uses none.
_REDIS_CLUSTER = ("redis.cluster", "redis.commands.cluster", "redis.keyspace_notifications")

# The packages to leave out, by the library that would import them: 4 MB for rich, 3 for OpenTelemetry
# (Redis's client would measure itself), 3 for gevent in a worker, 1 for sqlite3. Cryptography costs Redis's
# client no memory; but once anything has imported this package, it cannot be hidden from `jwt`
# (api/__main__.py).
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
    """Replaces redis.asyncio by a package that imports nothing by itself: saves 1.4 MB.

    `redis` needs one module in it, which is still found.
    """
    spec = find_spec("redis")
    if "redis" not in sys.modules and spec and spec.submodule_search_locations:
        package = ModuleType("redis.asyncio")
        package.__path__ = [f"{folder}/asyncio" for folder in spec.submodule_search_locations]
        sys.modules["redis.asyncio"] = package


class _Placeholder(ModuleType):
    """A module from which every name can be imported: each is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _leave_out_cluster() -> None:
    if "redis" not in sys.modules:
        sys.modules.update({name: _Placeholder(name) for name in _REDIS_CLUSTER})


_leave_out_asyncio()
_leave_out_cluster()
for _library, _unused in UNUSED.items():
    import_without(_library, _unused)
