"""A user for the tests of the profile."""

import pytest

from tests.makers import Visitor, visitor, work


@pytest.fixture
def person(client) -> Visitor:
    """Returns a signed-in customer whose registration has been processed."""
    user = visitor(client)
    work()
    return user
