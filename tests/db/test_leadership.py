"""One of several leads."""

from db.leadership import Leadership
from tests.makers import until


def pair(url: str) -> tuple[Leadership, Leadership]:
    return Leadership(url, "test"), Leadership(url, "test")


def test_one_leads_and_another_follows_when_it_lets_go(stores):
    first, second = pair(stores["DATABASE_URL"])
    assert first.held()
    assert first.held()
    assert not second.held()
    first.release()
    until(second.held)
    second.release()


def test_who_lost_the_connection_knows_that_it_does_not_lead(stores):
    leader, other = pair(stores["DATABASE_URL"])
    assert leader.held()
    leader._connection.close()
    until(other.held)
    assert not leader.held()
    assert not leader.held()
    other.release()
    until(leader.held)
    leader.release()
