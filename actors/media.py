"""Media: stores users' avatars outside the database, and removes those that no user shows.

A file is stored before the transaction that shows it, and removed after the transaction that hides it. In
both cases the job that removes the file is committed first, so that no crash leaves a file behind.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import UUID

import structlog

from actors.deadlines import within
from actors.external_jobs import external_job
from actors.jobs import enqueue
from actors.settings import MediaSettings
from db import job_claims, postgres, users
from db.core.errors import DomainError, ErrorCode
from db.job_journal import Job

log = structlog.get_logger(__name__)

# When a stored file that is not shown is removed: long after the end of the request that stored it.
_REMOVE_UNSHOWN_AFTER_S = 600
# How long one call to an object store may take: less than a lease (actors/job_leases.py).
STORE_DEADLINE_S = 10.0

R = TypeVar("R")


class MediaUnavailable(DomainError, code=ErrorCode.SERVICE_UNAVAILABLE, retry_after=5):
    """The media store is not available."""


class Media:
    """Stores files under MEDIA_URL by name. Opens the store at each use: forked processes must not share it.

    Each call to a remote store ends after `deadline` seconds.
    """

    def __init__(self, settings: MediaSettings, deadline: float = STORE_DEADLINE_S) -> None:
        self._deadline = deadline
        self._url, self._public_url = settings.media_url, settings.public_url

    def public_url(self, name: str | None) -> str | None:
        """Returns the URL of a file for browsers."""
        return f"{self._public_url}/media/{name}" if name else None

    def put(self, name: str, content: bytes) -> None:
        """Stores a file. Raises MediaUnavailable; a part of the file may be stored then."""
        self._call(lambda files, path: files.pipe_file(path, content), name)

    def get(self, name: str) -> bytes | None:
        """Returns the content of a file; None if it does not exist. Raises MediaUnavailable."""
        with suppress(FileNotFoundError):
            return bytes(self._call(lambda files, path: files.cat_file(path), name))
        return None

    def remove(self, name: str) -> None:
        """Removes a file, if it exists. Raises MediaUnavailable."""
        with suppress(FileNotFoundError):
            self._call(lambda files, path: files.rm_file(path), name)

    def _call(self, operation: Callable[[Any, str], R], name: str) -> R:
        """Calls the operation with the file system and the path of the file.

        Raises FileNotFoundError or MediaUnavailable. A remote call has a deadline here, because fsspec has no
        timeout that all its file systems support.
        """
        # Imported at the first call: fsspec takes a megabyte, and most processes never need it.
        import fsspec  # noqa: PLC0415
        from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415

        def remote() -> R:
            files, root = fsspec.url_to_fs(self._url)
            return operation(files, f"{root.rstrip('/')}/{name}")

        try:
            if not self._url.startswith("file:"):
                return within(self._deadline, remote)
            directory = url2pathname(urlsplit(self._url).path)
            return operation(LocalFileSystem(auto_mkdir=True), f"{directory}/{name}")
        except FileNotFoundError:
            raise
        except OSError as error:
            log.error("media store failed", error=f"{type(error).__name__}: {error}")
            raise MediaUnavailable from error


_media: Media | None = None


def configure(settings: MediaSettings) -> None:
    """Configures the store from which this process removes files."""
    global _media
    _media = Media(settings)


def new_avatar(user_id: UUID) -> tuple[str, Job]:
    """Returns an unguessable name for a user's avatar, and the job that removes it unless it is kept."""
    name = f"avatars/{secrets.token_hex(20)}.webp"
    return name, discard.job(user_id, name).delayed(_REMOVE_UNSHOWN_AFTER_S)


def cancel_removal(removal: Job) -> None:
    """Cancels the removal of an avatar, in the transaction that shows it. Raises MediaUnavailable."""
    job = job_claims.claim(removal.id)
    # A removal that was sent before may be running at this moment.
    if job is None or job.attempts:
        raise MediaUnavailable


def enqueue_removal(user_id: UUID) -> bool:
    """Enqueues the removal of a user's avatar, in the transaction that hides it; False if there is none."""
    name = users.avatar_name(user_id)
    if name is not None:
        enqueue(discard.job(user_id, name))
    return name is not None


@external_job("media.discard", queue="housekeeping")
def discard(user_id: UUID, name: str) -> None:
    """Removes an avatar, unless the user shows it."""
    with postgres.connection():
        if users.avatar_name(user_id) == name:
            return
    if _media is None:
        raise RuntimeError(
            "Media is not configured. Only a worker of the queue `housekeeping` removes files."
        )
    _media.remove(name)
