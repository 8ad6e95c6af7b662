"""ETags: what has not changed is not sent again, and what has changed is not overwritten."""

import hashlib
import re

from falcon import Request, Response

from db.core.errors import DomainError, ErrorCode

# An entity tag, whole: what stands between two commas, or at an end.
_TAG = re.compile(r'(?:(?<=,)|^)\s*(W/)?"([^"]*)"\s*(?=,|$)')


class VersionMismatch(DomainError):
    """It has changed since: its version is {version} now."""

    code = ErrorCode.VERSION_MISMATCH


def of_content(content: bytes) -> str:
    """The ETag of what has no version."""
    return hashlib.sha256(content).hexdigest()[:32]


def tag(req: Request, resp: Response, value: int | str | None = None) -> None:
    """Gives the answer an ETag, the value or else its content's; 304 when the caller has that already."""
    etag = of_content(resp.data or b"") if value is None else str(value)
    resp.etag = etag
    if req.method in ("GET", "HEAD") and _names(req, "If-None-Match", etag, weak=True):
        resp.status = 304
        resp.delete_header("Content-Type")
        resp.data = None


def known(req: Request, version: int) -> bool:
    """Whether the caller has this version, by its `If-None-Match`; `*` names none."""
    value = req.get_header("If-None-Match") or ""
    return value.strip() != "*" and _names(req, "If-None-Match", str(version), weak=True)


def has_condition(req: Request) -> bool:
    """Whether the caller names the version that it means."""
    return req.get_header("If-Match") is not None


def require_match(req: Request, version: int) -> None:
    """Refuses to change another version than the caller's `If-Match` names, if it names one. Raises Changed.

    What cannot be read matches nothing.
    """
    if has_condition(req) and not _names(req, "If-Match", str(version), weak=False):
        raise VersionMismatch(version=version)


def _names(req: Request, header: str, etag: str, *, weak: bool) -> bool:
    """Whether a header names this tag: by weak comparison or by strong (RFC 9110, 8.8.3.2), or as `*`."""
    value = req.get_header(header) or ""
    if value.strip() == "*":
        return True
    # Not by Falcon, to which "*" in quotes is the star, and a tag without quotes a tag.
    return any(tag == etag and (weak or not mark) for mark, tag in _TAG.findall(value))
