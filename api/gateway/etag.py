"""ETags: what has not changed is not sent again, and what has changed is not overwritten."""

import hashlib

from falcon import Request, Response

from db.fault import Code, Fault


class Changed(Fault):
    """It has changed since: its version is {version} now."""

    code = Code.VERSION_MISMATCH


def tag(req: Request, resp: Response, version: int | None = None) -> None:
    """Gives the answer an ETag, its version or else its content's; 304 when the caller has that already."""
    etag = str(version) if version is not None else hashlib.sha256(resp.data or b"").hexdigest()[:32]
    resp.etag = etag
    if req.method in ("GET", "HEAD") and any(known in ("*", etag) for known in req.if_none_match or []):
        resp.status = 304
        resp.delete_header("Content-Type")
        resp.data = None


def must_match(req: Request, version: int) -> None:
    """Refuses to change another version than the caller's `If-Match` names, if it names one. Raises Changed.

    By strong comparison (RFC 9110, 8.8.3.2); what cannot be read matches nothing.
    """
    if req.get_header("If-Match") is None:
        return
    named = req.if_match or []
    if not any(it == "*" or (it == str(version) and not getattr(it, "is_weak", False)) for it in named):
        raise Changed(version=version)
