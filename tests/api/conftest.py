"""Clients of the application. The default one checks every response against the OpenAPI document."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import falcon
import pytest
from falcon.testing import TestClient

from actors import records
from api.app import create_app
from api.operations import request_counts
from api.settings import WebSettings
from db import postgres, redis
from db.users import Role
from tests.api.conformance import ConformingClient, Document
from tests.event_schemas import check_data
from tests.makers import SECRETS, Visitor, visitor

MakeClient = Callable[..., TestClient]


@pytest.fixture(scope="session")
def document(root: Path) -> Document:
    # The committed one, as a test proves, is the served one, which takes each process 100 times as long to make.
    return Document(json.loads((root / "docs/openapi.json").read_text()))


@pytest.fixture
def client(database: None, application: falcon.App, document: Document) -> TestClient:  # type: ignore[type-arg]
    return ConformingClient(application, document)


@pytest.fixture
def no_requests(stores: dict[str, str]) -> redis.Client:
    """Forgets the requests that were counted: after some tests, they are twenty thousand lines of /metrics."""
    client = redis.connect(stores["REDIS_URL"])
    client.delete("paywright:http_requests")
    request_counts._counted.clear()
    return client


@pytest.fixture(autouse=True)
def conforming_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test at an event that the AsyncAPI document does not describe."""
    add = records.add

    def checked(kind: Literal["audit_entries", "events"], record: dict[str, Any]) -> None:
        if kind == "events":
            # As the journal and the log store it.
            check_data(record["type"], json.loads(postgres.Json(record["data"]).dumps(record["data"])))
        add(kind, record)

    monkeypatch.setattr(records, "add", checked)


@pytest.fixture
def make_client(database: None, stores: dict[str, str]) -> Iterator[MakeClient]:
    """Makes a client of an application that has these settings besides those of all tests.

    What its requests write is rolled back with the test's transaction.

    Closes the application's connections to Redis after the test. The garbage collector may finalize a socket
    before the connection that would close it, which is a ResourceWarning.
    """
    connect = redis.connect
    with ExitStack() as ending:

        def connect_until_the_end(*args: Any, **options: Any) -> redis.Client:
            opened = connect(*args, **options)
            ending.callback(opened.connection_pool.disconnect)
            return opened

        def make(**settings: str) -> TestClient:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(redis, "connect", connect_until_the_end)
                return TestClient(create_app(WebSettings.read({**SECRETS, **stores, **settings})))

        yield make


@pytest.fixture
def proxied_client(make_client: MakeClient) -> TestClient:
    """A client that is a trusted proxy."""
    return make_client(TRUSTED_PROXIES="127.0.0.1")


@pytest.fixture
def customer(client: TestClient) -> Visitor:
    return visitor(client, Role.CUSTOMER)


@pytest.fixture
def vendor(client: TestClient) -> Visitor:
    return visitor(client, Role.VENDOR)


@pytest.fixture
def admin(client: TestClient) -> Visitor:
    return visitor(client, Role.ADMIN)
