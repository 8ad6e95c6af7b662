"""Avatars: sent, taken back, and shown to anyone who has their address."""

import re
from dataclasses import dataclass
from typing import Any

from falcon import Request, Response

from actors import audit, media
from actors.jobs import enqueue, transaction
from actors.media import Media
from api.http import admission, etag
from api.http.operation import operation, raw_operation
from api.middleware import authentication
from api.profile import answers, pictures
from api.profile.resources import locked, note, written
from api.security.permissions import Permission
from db import profile
from db.core.errors import NotFound

_NAME = re.compile(r"[0-9a-f]{40}\.webp")


@dataclass
class Avatar:
    """POST, DELETE /profile/avatar"""

    store: Media

    @operation(
        Permission.SIGNED_IN,
        "Picture changed.",
        name="uploadAvatar",
        file="avatar",
        content_types=pictures.KINDS,
        response=answers.Profile,
        errors=(NotFound, pictures.NotAPicture, pictures.Busy, media.MediaUnavailable),
    )
    def on_post(self, req: Request, file: bytes) -> dict[str, Any]:
        """Shows another picture: PNG, JPEG or WebP, at most 5 MiB and 25 megapixels.

        It is turned upright and made at most 512 pixels large; of an animated one the first frame is kept,
        and nothing of what was written into it.
        """
        user_id = authentication.caller_of(req).user_id
        with admission.without_connection(req):
            content = pictures.small(file)
        name, removal = media.new_avatar(user_id)
        with transaction():
            enqueue(removal)
        with admission.without_connection(req):
            self.store.put(name, content)
        with transaction():
            user = locked(user_id)
            media.keep(removal)
            media.forget(user_id)
            profile.update(user_id, avatar_url=name)
            note(audit.AuditAction.AVATAR_CHANGED, user)
        return written(user, self.store)

    @operation(
        Permission.SIGNED_IN,
        "Picture deleted.",
        name="deleteAvatar",
        response=answers.Profile,
        errors=(NotFound,),
    )
    def on_delete(self, req: Request) -> dict[str, Any]:
        """Shows no picture any more."""
        with transaction():
            user = locked(authentication.caller_of(req).user_id)
            if media.forget(user.id):
                profile.update(user.id, avatar_url=None)
                note(audit.AuditAction.AVATAR_DELETED, user)
        return written(user, self.store)


@dataclass
class Avatars:
    """GET /media/avatars/:name"""

    store: Media

    @raw_operation(
        name="getAvatar", media=pictures.MEDIA, etag=True, errors=(NotFound, media.MediaUnavailable)
    )
    def on_get(self, req: Request, resp: Response, name: str) -> None:
        """A picture that somebody shows, for anyone who has its address.

        It cannot be guessed, and what is there never changes.
        """
        content = self.store.get(f"avatars/{name}") if _NAME.fullmatch(name) else None
        if content is None:
            raise NotFound(thing="picture")
        resp.content_type = pictures.MEDIA
        resp.data = content
        resp.cache_control = ["public", "max-age=31536000", "immutable"]
        # Frontends on other origins show it.
        resp.set_header("Cross-Origin-Resource-Policy", "cross-origin")
        etag.tag(req, resp)
