"""Every module that defines jobs: importing this one registers them all."""

from actors import (
    account_erasure,
    audit,
    events,
    housekeeping,
    mail,
    media,
    payment_jobs,
    request_addressees,
    statement_matching,
)

__all__ = [
    "account_erasure",
    "audit",
    "events",
    "housekeeping",
    "mail",
    "media",
    "payment_jobs",
    "request_addressees",
    "statement_matching",
]
