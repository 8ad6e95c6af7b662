"""Ids in a path: UUIDs in their one canonical spelling, so that a thing has one address."""

from uuid import UUID

from falcon.routing import BaseConverter

from api.http.fields import UUID_TEXT


class Canonical(BaseConverter):
    """What `{id:uuid}` takes. Falcon's own also takes braces, `urn:uuid:` and no dashes at all."""

    def convert(self, value: str) -> UUID | None:
        """The UUID; None when it is spelled otherwise."""
        return UUID(value) if UUID_TEXT.fullmatch(value) else None
