"""One scheduler leads, and a job is promised once a slot."""

from datetime import datetime, timedelta

import freezegun
import pytest

from actors import housekeeping
from db import auth, journal
from tests import makers
from tests.makers import work
from workers import scheduler

NOON = "2026-03-01T12:00:00Z"


def test_a_job_is_promised_once_a_slot(database):
    job, every = housekeeping.expire_refresh_tokens, timedelta(minutes=10)
    with freezegun.freeze_time(NOON):
        scheduler.due(job, every)
        scheduler.due(job, every)
    assert journal.Row.select().count() == 1
    with freezegun.freeze_time("2026-03-01T12:10:00Z"):
        scheduler.due(job, every)
    assert work() == ["housekeeping.expire_refresh_tokens"] * 2


@pytest.mark.parametrize(("at", "left"), [("2026-03-08T11:59:59Z", 1), ("2026-03-08T12:00:00Z", 0)])
def test_a_refresh_token_is_swept_up_after_seven_days_with_its_session(client, at, left):
    with freezegun.freeze_time(NOON):
        makers.visitor(client)
        work()
    with freezegun.freeze_time(at):
        scheduler.due(housekeeping.expire_refresh_tokens, timedelta(minutes=10))
        work()
    assert auth.RefreshToken.select().count() == left
    assert auth.Session.select().count() == left


@pytest.mark.parametrize("job", scheduler.JOBS, ids=lambda job: job.name)
def test_every_job_can_be_done_and_again_in_its_next_slot(database, job):
    every = scheduler.JOBS[job]
    noon = datetime.fromisoformat(NOON)
    for moment in (noon, noon + every - timedelta(milliseconds=1), noon + every):
        with freezegun.freeze_time(moment):
            scheduler.due(job, every)
    assert journal.Row.select().where(journal.Row.verb == job.name).count() == 2
    assert work().count(job.name) == 2
