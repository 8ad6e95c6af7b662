"""Every module that defines jobs: importing this one registers them all."""

from actors import (
    account_erasure,
    audit,
    events,
    housekeeping,
    invariant_checks,
    mail,
    media,
    payment_endings,
    payment_jobs,
    payment_reconciliation,
    request_addressees,
    statement_matching,
)

__all__ = [
    "account_erasure",
    "audit",
    "events",
    "housekeeping",
    "invariant_checks",
    "mail",
    "media",
    "payment_endings",
    "payment_jobs",
    "payment_reconciliation",
    "request_addressees",
    "statement_matching",
]
