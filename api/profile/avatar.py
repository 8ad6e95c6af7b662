"""POST, DELETE /profile/avatar; GET /media/avatars/:name."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore

import structlog
from falcon import Request, Response

from actors import media
from actors.audit import AuditAction
from actors.jobs import enqueue, transaction
from actors.media import Media
from api.http import etag
from api.http.admission import Busy, seat, without_connection
from api.http.body import ValidationFailed
from api.http.operation import Operation, RawOperation
from api.middleware.authentication import caller_of
from api.profile.resources import Profile, lock_user, profile_of, record_change
from api.security.permissions import Permission
from db import profile
from db.core.errors import DomainError, ErrorCode, NotFound

log = structlog.get_logger(__name__)

UPLOAD_TYPES = ("image/png", "image/jpeg", "image/webp")
STORED_TYPE = "image/webp"
_STORED_NAME = re.compile(r"[0-9a-f]{40}\.webp")

# Images that one web process has decoded at a time.
MAX_DECODERS = 2
_decoders = BoundedSemaphore(MAX_DECODERS)
# More than the decoder's limit of CPU time, which takes longer on a busy machine.
_DECODER_DEADLINE_S = 15.0
# -I finds the installed packages but no module of ours; the empty environment below holds no secret.
_DECODER = [sys.executable, "-I", str(Path(__file__).with_name("decoding.py"))]
# Repeats `decoding.EXIT_REFUSED`: importing that module would load Pillow into every web process.
_EXIT_REFUSED = 3


class NotAnImage(DomainError, code=ErrorCode.UNSUPPORTED_MEDIA_TYPE):
    """The file must be a PNG, JPEG or WebP image by its content, whatever its name."""


@dataclass(frozen=True)
class Avatars:
    """The routes of avatars."""

    store: Media

    @Operation(
        Permission.SIGNED_IN,
        "Avatar changed.",
        file="avatar",
        content_types=UPLOAD_TYPES,
        errors=(NotFound, NotAnImage, Busy, media.MediaUnavailable),
    )
    def upload_avatar(self, req: Request, file: bytes) -> Profile:
        """Upload an avatar.

        Takes a PNG, JPEG or WebP image of at most 5 MiB and 25 megapixels. It is turned upright, reduced to
        at most 512 pixels a side and stripped of metadata; of an animation the first frame is kept.
        """
        user_id = caller_of(req).user_id
        if not _is_image(file):
            fault = {"field": "avatar", "message": "must be a PNG, JPEG or WebP image"}
            raise NotAnImage({"fields": [fault]})
        with without_connection(), seat(_decoders):
            content = _decode(file)
        # The removal is enqueued before the file is stored and withdrawn with the change that refers to it: a
        # crash in between leaves no file behind.
        name, removal = media.new_avatar(user_id)
        with transaction():
            enqueue(removal)
        with without_connection():
            self.store.put(name, content)
        with transaction():
            user = lock_user(user_id)
            media.keep(removal)
            media.forget(user_id)
            profile.update(user_id, avatar_url=name)
            record_change(AuditAction.AVATAR_CHANGED, user)
        return profile_of(user.id, self.store)

    @Operation(Permission.SIGNED_IN, "Avatar deleted.", errors=(NotFound,))
    def delete_avatar(self, req: Request) -> Profile:
        """Delete the avatar."""
        with transaction():
            user = lock_user(caller_of(req).user_id)
            if media.forget(user.id):
                profile.update(user.id, avatar_url=None)
                record_change(AuditAction.AVATAR_DELETED, user)
        return profile_of(user.id, self.store)

    @RawOperation(name="getAvatar", media=STORED_TYPE, etag=True, errors=(NotFound, media.MediaUnavailable))
    def get_avatar(self, req: Request, resp: Response, name: str) -> None:
        """Get an avatar.

        Needs no token. An avatar's address cannot be guessed, and its content never changes.
        """
        content = self.store.get(f"avatars/{name}") if _STORED_NAME.fullmatch(name) else None
        if content is None:
            raise NotFound(thing="avatar")
        # The default, same-origin, would keep frontends of other origins from displaying it.
        resp.set_header("Cross-Origin-Resource-Policy", "cross-origin")
        etag.send(req, resp, content, STORED_TYPE, "public", "max-age=31536000", "immutable")


def _is_image(file: bytes) -> bool:
    webp = file[:4] == b"RIFF" and file[8:12] == b"WEBP"
    return webp or file.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def _decode(file: bytes) -> bytes:
    """Returns the avatar that `decoding` makes of a file. Raises ValidationFailed."""
    try:
        decoder = subprocess.run(
            _DECODER, input=file, capture_output=True, timeout=_DECODER_DEADLINE_S, check=False, env={}
        )
    except subprocess.TimeoutExpired:
        raise _invalid("takes too long to decode") from None
    if decoder.returncode == 0:
        return decoder.stdout
    error = decoder.stderr.decode(errors="replace")[-500:]
    log.info("an avatar could not be decoded", status=decoder.returncode, error=error)
    if decoder.returncode == _EXIT_REFUSED:
        raise _invalid(decoder.stdout.decode())
    # A signal: the CPU limit. Any other status: the decoder itself crashed on the file.
    raise _invalid("takes too long to decode" if decoder.returncode < 0 else "is damaged")


def _invalid(message: str) -> ValidationFailed:
    return ValidationFailed.of("avatar", message)
