"""Two administrators who depose one another at the same moment: one of them remains. On committed data."""

import threading
from collections.abc import Iterator

import pytest
from falcon.testing import TestClient

from api.app import create_app
from db import postgres
from db.users import Role, User
from tests import makers
from tests.makers import Visitor


@pytest.fixture
def bosses(stores, settings) -> Iterator[list[Visitor]]:
    client = TestClient(create_app(settings))
    with postgres.connection():
        made = [makers.visitor(client, Role.ADMIN) for _ in range(4)]
    yield made
    makers.wipe()


@pytest.mark.parametrize("how", ["depose", "close"])
def test_of_administrators_who_race_one_remains(bosses, how):
    start = threading.Barrier(len(bosses))
    answers: list[int] = []

    def go(who: Visitor, other: Visitor) -> None:
        path = f"/admin/users/{other.user['id']}"
        start.wait(20)
        if how == "depose":
            answers.append(who.send("PUT", f"{path}/role", {"role": "CUSTOMER"}).status_code)
        else:
            answers.append(who.send("DELETE", path).status_code)

    pairs = zip(bosses, bosses[1:] + bosses[:1], strict=True)
    threads = [threading.Thread(target=go, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with postgres.connection():
        left = User.select().where(User.role == Role.ADMIN, User.active == True).count()  # noqa: E712
    assert left >= 1
    assert len(answers) == len(bosses)
    # Who is deposed before they ask is no administrator any more; who is the last one stays.
    assert set(answers) <= {200, 401, 403, 409}
    assert answers.count(200) == len(bosses) - left
