"""Our own subscribers. For the mails about payments see tests/actors/test_payment_mails.py."""

import pytest

from actors import events, subscriber
from actors.event_handlers import SUBSCRIBERS
from actors.jobs import transaction
from db import config, postgres
from db.config import ConfigKey
from tests import makers
from tests.makers import mailbox, work
from tests.tables import JobRow, Subscription

pytestmark = pytest.mark.usefixtures("database")


def die(*_args: object) -> None:
    raise SystemExit


def test_a_process_killed_while_it_enqueues_a_mail_enqueues_it_once(monkeypatch):
    payer = makers.user()
    with monkeypatch.context() as patched:
        patched.setattr(makers, "deliver_events", lambda: False)
        makers.payment(payer)
        work()
        patched.setattr("actors.mail.notify_payment_ended.job", die)
        with pytest.raises(SystemExit):
            subscriber.once(SUBSCRIBERS)
    assert JobRow.select().count() == 0
    Subscription.update(due_at=Subscription.moved_at).execute()
    work()
    assert [mail["To"] for mail in mailbox] == [payer.email]
    assert not subscriber.once(SUBSCRIBERS)


def test_a_changed_configuration_is_read_at_once(monkeypatch):
    # A new subscriber begins at the end of the log.
    subscriber.once(SUBSCRIBERS)
    monkeypatch.setattr(config, "CACHE_TTL_S", 3600.0)
    assert config.value(ConfigKey.MAINTENANCE_READ_ONLY) is False
    sql = "INSERT INTO admin.system_config (key, value) VALUES (%s, 'true')"
    postgres.rows(sql, ConfigKey.MAINTENANCE_READ_ONLY)
    assert config.value(ConfigKey.MAINTENANCE_READ_ONLY) is False
    with transaction():
        events.emit(events.EventType.CONFIG_UPDATED, {"changes": {}})
    work()
    assert config.value(ConfigKey.MAINTENANCE_READ_ONLY) is True
