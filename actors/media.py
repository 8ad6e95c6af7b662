"""Media: pictures that people show, kept outside the database; and the removal of those that nobody shows.

A picture is stored before the transaction that shows it, and removed after the one that does not any more.
Its removal is promised first in both cases, so no crash leaves a file behind that nobody knows of.
"""

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import UUID

import fsspec
import structlog
from fsspec.implementations.local import LocalFileSystem

from actors.jobs import enqueue, external_job
from actors.settings import MediaSettings
from db import job_journal, postgres, profile
from db.core.errors import DomainError, ErrorCode

log = structlog.get_logger(__name__)

# In seconds: how long a picture may be stored and not yet shown. Long after its request has ended.
_PATIENCE = 600
# How long an object store may take for one file, in seconds: shorter than a lease (actors/job_leases.py).
STORE_DEADLINE_S = 10.0

R = TypeVar("R")


class MediaUnavailable(DomainError):
    """Pictures cannot be had or kept at the moment."""

    code = ErrorCode.SERVICE_UNAVAILABLE
    retry_after = 5


class Media:
    """Keeps files under MEDIA_URL, by name. Opened at the first use: what is forked must not share it. A
    store on the other side of a network has `deadline` seconds for each call."""

    def __init__(self, settings: MediaSettings, deadline: float = STORE_DEADLINE_S) -> None:
        self._deadline = deadline
        self._url, self._public_url = settings.media_url, settings.public_url

    def address(self, name: str | None) -> str | None:
        """Where browsers find a file."""
        return f"{self._public_url}/media/{name}" if name else None

    def put(self, name: str, content: bytes) -> None:
        """Keeps a file. Raises Away; then a part of it may be there."""
        try:
            self._do(lambda files, path: files.pipe_file(path, content), name)
        except OSError as error:
            raise _away(error) from error

    def get(self, name: str) -> bytes | None:
        """A file's content, if there is such a file. Raises Away."""
        try:
            return bytes(self._do(lambda files, path: files.cat_file(path), name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _away(error) from error

    def remove(self, name: str) -> None:
        """Removes a file; it may be gone already. Raises Away."""
        try:
            self._do(lambda files, path: files.rm_file(path), name)
        except FileNotFoundError:
            log.debug("there is no such file any more", name=name)
        except OSError as error:
            raise _away(error) from error

    def _do(self, call: Callable[[Any, str], R], name: str) -> R:
        """Does this to a file, given the file system and the path there. Raises OSError, also
        TimeoutError."""
        if self._url.startswith("file:"):
            return call(LocalFileSystem(auto_mkdir=True), f"{url2pathname(urlsplit(self._url).path)}/{name}")

        def away() -> R:
            files, root = fsspec.url_to_fs(self._url)
            return call(files, f"{root.rstrip('/')}/{name}")

        return _within(self._deadline, away)


_media: Media | None = None


def configure(settings: MediaSettings) -> None:
    """Sets where this process removes pictures from."""
    global _media
    _media = Media(settings)


def new_avatar(user_id: UUID) -> tuple[str, job_journal.Job]:
    """An unguessable name for somebody's picture, and the promise to remove it unless it is kept."""
    name = f"avatars/{secrets.token_hex(20)}.webp"
    return name, discard.job(user_id, name).delayed(_PATIENCE)


def keep(removal: job_journal.Job) -> None:
    """Takes the promise to remove a picture back, in the transaction that shows it. Raises Away."""
    task = job_journal.claim(removal.id)
    # One that was sent may be being kept just now.
    if task is None or task.attempts:
        raise MediaUnavailable


def forget(user_id: UUID) -> bool:
    """Promises to remove the picture that a person shows, in the transaction that shows it no longer; whether
    there is one."""
    name = profile.avatar_name(user_id)
    if name is not None:
        enqueue(discard.job(user_id, name))
    return name is not None


@external_job("media.discard", queue="housekeeping")
def discard(user_id: UUID, name: str) -> None:
    """Removes a picture of a person, unless that is what they show."""
    with postgres.connection():
        if profile.avatar_name(user_id) == name:
            return
    if _media is None:
        raise RuntimeError("media.open() was not called: only who knows MEDIA_URL removes pictures")
    _media.remove(name)


def _within(seconds: float, do: Callable[[], R]) -> R:
    """What `do` gives, if it takes no longer than this; else TimeoutError, and its thread is left to itself.

    In a thread of its own, since fsspec has no time limit that all of its file systems know. A daemon: one
    that hangs keeps no process from ending.
    """
    outcome: Future[R] = Future()

    def run() -> None:
        try:
            outcome.set_result(do())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result(seconds)


def _away(error: OSError) -> MediaUnavailable:
    log.error("the media store failed", error=f"{type(error).__name__}: {error}")
    return MediaUnavailable()
