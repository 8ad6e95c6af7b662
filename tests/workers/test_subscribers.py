"""What our own services do when they hear of an event; the letters are in tests/actors/test_payment_mails.py."""

import pytest

from actors import events, subscriber
from actors.jobs import transaction
from db import config, job_journal, subscriptions
from db.config import ConfigKey, SystemConfig
from tests import makers
from tests.makers import mailbox, work
from workers.subscribers import SUBSCRIBERS

pytestmark = pytest.mark.usefixtures("database")


def dies(*_args: object) -> None:
    raise SystemExit


def test_a_hub_that_is_killed_while_it_promises_a_letter_promises_it_once(monkeypatch):
    payer = makers.user()
    with monkeypatch.context() as patched:
        patched.setattr(makers, "deliver_events", lambda: False)
        makers.payment(payer)
        work()
        patched.setattr("actors.mail.notify_payment_ended.job", dies)
        with pytest.raises(SystemExit):
            subscriber.once(SUBSCRIBERS)
    assert job_journal.JobRow.select().count() == 0
    subscriptions.Subscription.update(due_at=subscriptions.Subscription.moved_at).execute()
    work()
    assert [letter["To"] for letter in mailbox] == [payer.email]
    assert not subscriber.once(SUBSCRIBERS)


def test_a_changed_configuration_is_read_anew_at_once(monkeypatch):
    # A handler that is new begins at the end of the log.
    subscriber.once(SUBSCRIBERS)
    monkeypatch.setattr(config, "CACHE_TTL_S", 3600.0)
    assert config.value(ConfigKey.MAINTENANCE_READ_ONLY) is False
    SystemConfig.insert(key=ConfigKey.MAINTENANCE_READ_ONLY, value=True).execute()
    assert config.value(ConfigKey.MAINTENANCE_READ_ONLY) is False
    with transaction():
        events.emit(events.EventType.CONFIG_UPDATED, {"changes": {}})
    work()
    assert config.value(ConfigKey.MAINTENANCE_READ_ONLY) is True
