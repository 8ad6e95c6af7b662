"""Every module that has verbs: who imports this knows them all."""

from actors import audit, events, housekeeping, mail, media, payments, statements

__all__ = ["audit", "events", "housekeeping", "mail", "media", "payments", "statements"]
