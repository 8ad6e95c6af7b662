"""Every module that has verbs: who imports this knows them all."""

from actors import addressees, audit, erasure, events, housekeeping, mail, media, payments, statements

__all__ = [
    "addressees",
    "audit",
    "erasure",
    "events",
    "housekeeping",
    "mail",
    "media",
    "payments",
    "statements",
]
