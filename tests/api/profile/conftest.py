"""Somebody with a profile."""

import pytest

from tests.makers import Visitor, visitor, work


@pytest.fixture
def person(client) -> Visitor:
    who = visitor(client)
    work()
    return who
