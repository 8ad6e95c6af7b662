"""The media store, and the removal of avatars that no user shows."""

import threading
from uuid import uuid4

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from actors import job_leases, media
from actors.jobs import enqueue, transaction
from actors.media import Media
from actors.settings import MediaSettings
from api.settings import WebSettings
from db import postgres, users
from db.core.settings import InvalidSetting
from tests.makers import SECRETS, user, work
from tests.tables import JobRow


@pytest.fixture
def store(stores) -> Media:
    return Media(MediaSettings.read({**SECRETS, **stores}))


@pytest.mark.parametrize("kind", [MediaSettings, WebSettings])
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("pictures", "must be file:///directory"),
        ("/srv/media", "must be file:///directory"),
        ("file://host/srv/media", "must be file:///directory"),
        ("file:srv", "must be file:///directory"),
        ("nothing://bucket", "Protocol not known: nothing"),
        ("s3://bucket", "s3fs"),
    ],
)
def test_an_unsupported_media_url_stops_the_start_with_one_line(stores, kind, url, why):
    with pytest.raises(InvalidSetting, match=rf"^invalid setting: MEDIA_URL: .*{why}") as wrong:
        kind.read({**SECRETS, **stores, "MEDIA_URL": url})
    assert "\n" not in str(wrong.value)


def test_by_default_media_is_stored_beside_the_other_data(stores, monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "my data"))
    for environment in ({}, {"MEDIA_URL": ""}):
        stores_only = {name: url for name, url in stores.items() if name != "MEDIA_URL"}
        read = MediaSettings.read({**SECRETS, **stores_only, **environment})
        assert read.media_url == (tmp_path / "my data/media").as_uri()


@pytest.mark.usefixtures("database")
def test_an_avatar_that_is_shown_is_not_removed(store):
    owner = user()
    name, removal = media.new_avatar(owner.id)
    store.put(name, b"picture")
    users.update_profile(owner.id, avatar_url=name)
    with transaction():
        enqueue(removal)
    assert work() == ["media.discard"]
    assert store.get(name) == b"picture"


@pytest.mark.usefixtures("database")
def test_an_avatar_that_is_not_shown_is_removed_and_a_second_removal_does_nothing(store):
    owner = user()
    name, _removal = media.new_avatar(owner.id)
    store.put(name, b"picture")
    for _ in range(2):
        with transaction():
            enqueue(media.discard.job(owner.id, name))
        assert work() == ["media.discard"]
        assert store.get(name) is None


@pytest.mark.usefixtures("database")
def test_the_avatar_of_a_closed_account_is_removed(store):
    owner = user()
    name, _removal = media.new_avatar(owner.id)
    store.put(name, b"picture")
    users.update_profile(owner.id, avatar_url=name)
    with transaction():
        assert media.enqueue_removal(owner.id)
        users.close(owner.id, email="closed@closed.invalid", name="Closed account")
    work()
    assert store.get(name) is None


@pytest.mark.usefixtures("database")
def test_the_removal_of_a_new_avatar_is_delayed_and_can_be_cancelled(store):
    _name, removal = media.new_avatar(uuid4())
    with transaction():
        enqueue(removal)
    [row] = postgres.rows(
        "SELECT due_at - clock_timestamp() AS wait FROM journal.jobs WHERE id = %s", removal.id
    )
    assert row["wait"].total_seconds() > 300
    with transaction():
        media.cancel_removal(removal)
    assert work() == []


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("happened", ["sent", "done"])
def test_an_avatar_whose_removal_may_have_begun_is_not_kept(happened):
    _name, removal = media.new_avatar(uuid4())
    with transaction():
        enqueue(removal)
    if happened == "sent":
        JobRow.update(attempts=1).where(JobRow.id == removal.id).execute()
    else:
        work()
    with pytest.raises(media.MediaUnavailable), transaction():
        media.cancel_removal(removal)


@pytest.mark.usefixtures("database")
def test_a_removal_is_retried_while_the_store_is_unavailable(store, monkeypatch):
    class Unavailable:
        def __init__(self, **_options):
            pass

        def rm_file(self, _path):
            raise PermissionError("not now")

    owner = user()
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem", Unavailable)
    job = media.discard.job(owner.id, "avatars/a.webp")
    with transaction():
        enqueue(job)
    media.discard.perform(job.id)
    row = JobRow.get_by_id(job.id)
    assert row.error == "MediaUnavailable: The media store is not available."
    assert row.dead_at is None


def test_a_store_that_hangs_is_unavailable_after_its_deadline(stores, monkeypatch):
    go_on = threading.Event()

    class Hanging(MemoryFileSystem):  # type: ignore[misc]
        def cat_file(self, *_args, **_options):
            go_on.wait(60)

        pipe_file = rm_file = cat_file

    monkeypatch.setattr("fsspec.url_to_fs", lambda _url: (Hanging(), "pictures"))
    hanging = Media(MediaSettings.read({**SECRETS, **stores, "MEDIA_URL": "memory://pictures"}), deadline=0.1)
    try:
        for call in (lambda: hanging.get("a"), lambda: hanging.put("a", b""), lambda: hanging.remove("a")):
            with pytest.raises(media.MediaUnavailable):
                call()
    finally:
        go_on.set()


def test_a_call_to_the_store_ends_before_its_lease():
    assert media.STORE_DEADLINE_S < job_leases.LEASE_S
