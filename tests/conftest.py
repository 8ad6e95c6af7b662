"""Real servers for the whole run; one rolled-back transaction for each test that asks for `database`."""

import gc
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from math import inf
from pathlib import Path
from typing import Any

import falcon
import freezegun.api
import pytest
from falcon.testing import TestClient
from xdist.scheduler import LoadScopeScheduling

from actors import broker, mail_sender, media
from actors.psp import calls, provider
from actors.settings import MailSettings, MediaSettings
from api.app import create_app
from api.events.feed import Feed, Stream
from api.settings import WebSettings
from db import config, job_floors, live_sessions, migrate, pool, postgres, redelivery, redis
from db.core import logs, request_context
from tests import makers, savepoints
from tests.makers import SECRETS, DisposablePostgres
from workers.dev.servers import Postgres, Valkey, free_port

# Most flows share one stack, in one of five processes. They mostly wait; the others keep two cores busy meanwhile.
FLOWS = "tests/flows/"
# So do the tests in a browser, with a stack that none of their neighbours stops.
BROWSER = "tests/browser/"
# And the flows that stop nothing.
POOLED = "tests/flows/pooled/"
# These start a stack of their own.
OWN_STACK = (
    "tests/browser/test_break_it.py",
    "tests/flows/test_proxy.py",
    "tests/workers/dev/",
)
# And these take one process longer than the others need for all that would be left beside them at the end.
LONG = (
    "tests/api/test_schemathesis.py",
    "tests/api/test_lock_order.py",
    "tests/bench/",
    "tests/db/test_migrations.py",
    "tests/db/test_settings.py",
    "tests/workers/",
)


def group(nodeid: str) -> str:
    """What one process runs together: the tests that share a stack, or those of a file."""
    file = nodeid.partition("::")[0]
    if nodeid.startswith(OWN_STACK):
        return file
    return next((shared for shared in (POOLED, FLOWS, BROWSER) if nodeid.startswith(shared)), file)


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps each file's tests in one process, and in one of them all that share a stack."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


# Not xdist's groups: its version 3.8 marks them in a way that pytest 9.2 does not see.
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return FilesTogether(config, log)


def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Compiles the tests of a fresh clone in one process for each processor, before all processes need them.

    They begin at the same moment: each would compile everything, the packages and the product, too.
    """
    files = [str(path) for path in sorted(Path(__file__).parent.rglob("test_*.py"))]
    fresh = [path for path in files if not list(Path(path).parent.glob(f"__pycache__/{Path(path).stem}.*"))]
    if sys.dont_write_bytecode or len(fresh) < len(files) / 2:
        return
    processors = min(os.cpu_count() or 1, 4)
    collect = [sys.executable, "-m", "pytest", "-n0", "--collect-only", "-qq"]
    shares = [[*collect, *fresh[first::processors]] for first in range(processors)]
    # What cannot be collected is reported by the run itself.
    started = [subprocess.Popen(each, cwd=config.rootpath, stdout=subprocess.DEVNULL) for each in shares]
    for process in started:
        process.wait()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begins with the stacks, the shared ones first, then what is long, where several processes run.

    They would be left over at the end.
    """
    if hasattr(config, "workerinput"):
        order = {FLOWS: 0, BROWSER: 1, POOLED: 2}
        early = OWN_STACK + LONG
        items.sort(key=lambda item: order.get(group(item.nodeid), 4 - item.nodeid.startswith(early)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keeps the garbage collector from what lives to the end: modules and tests, 300,000 objects.

    It would visit them again and again, for a twentieth of the time of a run. It also begins less often than by
    default, which is after 700 new objects: a request makes more, and hardly any of them are in cycles.
    """
    gc.disable()
    collected = yield
    # Without a collection before it, which takes each process half a second: hardly anything of it is garbage.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
    return collected


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    logs.configure("CRITICAL")


@pytest.fixture(scope="session", autouse=True)
def fast_freezes() -> Iterator[None]:
    """Freezing the time sees by a module's number of attributes that it has no new clock.

    freezegun sorts the names of all attributes of two thousand modules for it, in 10 ms each time.
    """

    def fingerprint(module: object) -> str:
        return f"{id(module)}-{len(getattr(module, '__dict__', ()))}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freezegun.api, "_get_module_attributes_hash", fingerprint)
        yield


@pytest.fixture(scope="session", autouse=True)
def finite_streams() -> Iterator[None]:
    """An event stream ends where it would wait: no other thread reads the log, and no test reads without end."""

    def read_once(stream: Stream) -> bool:
        stream._feed.once()
        if not stream._waiting and stream._after >= stream._log_until:
            stream.end()
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Feed, "_start", lambda _feed: None)
        patch.setattr(Stream, "wait", read_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def short_waits() -> Iterator[None]:
    """A consumer waits a moment for a message: who reads a queue to its end, or stops a worker, waits for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker, "WAIT_S", 0.1)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_slow_searches() -> Iterator[None]:
    """No search for jobs counts as slow, however loaded the machine is: the next ones would ask for more, or less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_floors, "SLOW_S", inf)
        yield


@pytest.fixture(scope="session", autouse=True)
def patient_clients() -> Iterator[None]:
    """Stores have the time to answer that a loaded machine needs.

    After an answer that takes Redis longer than 0.1 s, a process goes on without it for a second; a PostgreSQL that
    answers no probe in a second is unavailable. A refused connection is noticed as early as ever.
    """
    assert redis.connect.__kwdefaults__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis, "REQUEST_TIMEOUT_S", 30.0)
        patch.setitem(redis.connect.__kwdefaults__, "timeout", 30.0)
        for name in ("ACQUIRE_TIMEOUT_S", "CONNECT_TIMEOUT_MIN_S", "PROBE_TIMEOUT_S"):
            patch.setattr(pool, name, 30.0)
        yield


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = DisposablePostgres(tmp_path_factory.mktemp("stores") / "postgres", free_port(), "test")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("stores") / "valkey", free_port(), "test")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def stores(
    postgres_server: Postgres, valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """A migrated database and a Redis, opened for this process, and a place for media; their settings."""
    migrate.up(postgres_server.url)
    postgres.configure(postgres_server.url, connections=20)
    broker.configure(valkey_server.url, timeout=30)
    pictures = tmp_path_factory.mktemp("media").as_uri()
    return {"DATABASE_URL": postgres_server.url, "REDIS_URL": valkey_server.url, "MEDIA_URL": pictures}


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer of the PSP comes so late that it is settled by a job of its own."""
    monkeypatch.setattr(calls, "SETTLED_AT_ONCE_WITHIN_S", -1)


@pytest.fixture
def lasting_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process caches for a second lasts: on a loaded machine a test would read it anew amid what it counts."""
    monkeypatch.setattr(config, "CACHE_TTL_S", inf)
    monkeypatch.setattr(live_sessions, "REMEMBERED_S", inf)


@pytest.fixture
def database(stores: dict[str, str]) -> Iterator[None]:
    """The database in a transaction that is rolled back: what a test writes, no other sees."""
    provider.choose(makers.stub())
    mail_sender.configure(MailSettings.read({**SECRETS, **stores}), transport=makers.mailbox)
    media.configure(MediaSettings.read({**SECRETS, **stores}))
    makers.mailbox.clear()
    request_context.bind(request_context.EMPTY)
    config.clear_cache()
    # After a search that a test declared slow, the next ones ask one statement more.
    job_floors.forget()
    redelivery.forget()
    with postgres.connection(), postgres.database.atomic() as transaction:
        # On a loaded machine a test pauses for longer than a request may.
        postgres.rows(f"SET LOCAL idle_in_transaction_session_timeout = 0; {makers.SKIP_OLD_EVENTS}")
        with savepoints.deferred():
            yield
        transaction.rollback()
    # What was read of the configuration was rolled back; the next test may come within its second.
    config.clear_cache()


@pytest.fixture(scope="session")
def settings(stores: dict[str, str]) -> WebSettings:
    return WebSettings.read({**SECRETS, **stores})


@pytest.fixture(scope="session")
def application(settings: WebSettings) -> falcon.App:  # type: ignore[type-arg]
    """The application, made once for all tests: its routes cost as much as several requests."""
    return create_app(settings)


@pytest.fixture
def client(database: None, application: falcon.App) -> TestClient:  # type: ignore[type-arg]
    """A client of the API, in this thread and in the test's transaction."""
    return TestClient(application)


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parent.parent
