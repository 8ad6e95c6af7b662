"""Pictures: whatever somebody sends becomes a small one of our own making, or is refused."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from api.http.errors import ValidationFailed
from db.core.errors import DomainError, ErrorCode

log = structlog.get_logger(__name__)

MEDIA = "image/webp"
KINDS = ("image/png", "image/jpeg", "image/webp")

# How many pictures a process has decoded at once; how many requests may hold a thread for it, and how long
# they wait for their turn.
_turns = threading.BoundedSemaphore(2)
SEATS = 4
_seats = threading.BoundedSemaphore(SEATS)
TURN_S = 2.0
# Longer than the decoder's limit of CPU time, which a busy machine stretches.
_DECODER_DEADLINE_S = 15.0

# Isolated (-I): it finds its packages, and no module of ours; its environment is empty and holds no secret.
_DECODER = [sys.executable, "-I", str(Path(__file__).with_name("decoding.py"))]
_REFUSED = 3


class NotAPicture(DomainError):
    """The file must be a PNG, JPEG or WebP picture: its content, whatever its name."""

    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE

    def __init__(self) -> None:
        super().__init__({"fields": [{"field": "avatar", "message": "must be a PNG, JPEG or WebP picture"}]})


class Busy(DomainError):
    """Too many pictures are being decoded at the moment."""

    code = ErrorCode.SERVICE_UNAVAILABLE
    retry_after = 5


def small(file: bytes) -> bytes:
    """The picture as `decoding` makes it. Raises NotAPicture, Invalid or Busy."""
    if not _is_one(file):
        raise NotAPicture
    with _one_of(_seats, 0), _one_of(_turns, TURN_S):
        return _decoded(file)


@contextmanager
def _one_of(places: threading.BoundedSemaphore, wait_s: float) -> Iterator[None]:
    if not places.acquire(timeout=wait_s):
        raise Busy
    try:
        yield
    finally:
        places.release()


def _is_one(file: bytes) -> bool:
    webp = file[:4] == b"RIFF" and file[8:12] == b"WEBP"
    return webp or file.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def _decoded(file: bytes) -> bytes:
    try:
        decoder = subprocess.run(
            _DECODER, input=file, capture_output=True, timeout=_DECODER_DEADLINE_S, check=False, env={}
        )
    except subprocess.TimeoutExpired:
        raise _wrong("takes too long to decode") from None
    if decoder.returncode == 0:
        return decoder.stdout
    error = decoder.stderr.decode(errors="replace")[-500:]
    log.info("a picture could not be decoded", status=decoder.returncode, error=error)
    if decoder.returncode == _REFUSED:
        raise _wrong(decoder.stdout.decode())
    # Its limit of CPU time ended it (by a signal), or the decoder broke.
    raise _wrong("takes too long to decode" if decoder.returncode < 0 else "is damaged")


def _wrong(message: str) -> ValidationFailed:
    return ValidationFailed({"fields": [{"field": "avatar", "message": message}]})
