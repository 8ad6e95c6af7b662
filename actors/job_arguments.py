"""The arguments of jobs as operators see them: what a job is about, without secrets and personal data."""

from typing import Any

from pydantic.alias_generators import to_camel

# Arguments that are shown. Every other one is hidden, also one that a later release adds.
SHOWN = frozenset(
    {
        "again",
        "answer",
        "attempt_id",
        "customer_id",
        "day",
        "inquiry",
        "news",
        "payment_id",
        "purpose",
        "reason",
        "run",
        "to_payee",
        "user_id",
        "vendor_id",
    }
)
# `id` names a mailed link, from which its token is derived; `name` is the address of a picture.
HIDDEN = frozenset({"after", "audit_entries", "by", "email", "events", "id", "lines", "more", "name"})
# Names that mean something else in one job.
_SHOWN_IN = {"housekeeping.check_invariant": "name"}

_HIDDEN_TEXT = "[hidden]"


def shown(job_name: str, args: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a job, with a text in place of the hidden ones, and of a list its length."""
    return {to_camel(key): _shown(job_name, key, value) for key, value in args.items()}


def _shown(job_name: str, key: str, value: Any) -> Any:
    if value is None or key in SHOWN or _SHOWN_IN.get(job_name) == key:
        return value
    return f"[{len(value)} hidden]" if isinstance(value, list) else _HIDDEN_TEXT
