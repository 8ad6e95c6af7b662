"""ETags: an unchanged resource is not sent again (304), and a changed one is not overwritten (412)."""

import hashlib
import re

from falcon import Request, Response

from db.core.errors import DomainError, ErrorCode

# A whole entity tag: between two commas, or at an end of the header.
_TAG = re.compile(r'(?:(?<=,)|^)\s*(W/)?"([^"]*)"\s*(?=,|$)')


class VersionMismatch(DomainError, code=ErrorCode.VERSION_MISMATCH):
    """The resource has changed: its version is {version} now. Read it again before changing it."""


def send(req: Request, resp: Response, content: bytes, media: str, *cache: str) -> None:
    """Sends a content with an ETag of its digest; `cache` are the directives of its Cache-Control."""
    resp.content_type, resp.data = media, content
    if cache:
        resp.cache_control = cache
    tag(req, resp)


def digest(content: bytes) -> str:
    """Returns the version of a content that has no other one."""
    return hashlib.sha256(content).hexdigest()[:32]


def tag(req: Request, resp: Response, version: int | str | None = None) -> None:
    """Sets the response's ETag: the version, or a digest of the content. 304 if the client has it already."""
    etag = digest(resp.data or b"") if version is None else str(version)
    resp.etag = etag
    if req.method in ("GET", "HEAD") and _names(req, "If-None-Match", etag, weak=True):
        resp.status = 304
        resp.delete_header("Content-Type")
        resp.data = None


def known(req: Request, version: int) -> bool:
    """Returns whether the request's `If-None-Match` names this version. `*` names no version."""
    value = req.get_header("If-None-Match") or ""
    return value.strip() != "*" and _names(req, "If-None-Match", str(version), weak=True)


def has_condition(req: Request) -> bool:
    """Returns whether the request has an `If-Match`."""
    return req.get_header("If-Match") is not None


def require_match(req: Request, version: int | str) -> None:
    """Checks the version against the request's `If-Match`, if there is one. Raises VersionMismatch.

    A malformed `If-Match` matches no version.
    """
    if has_condition(req) and not _names(req, "If-Match", str(version), weak=False):
        raise VersionMismatch(version=version)


def _names(req: Request, header: str, etag: str, *, weak: bool) -> bool:
    """Returns whether a header is `*` or names the tag, by weak or strong comparison (RFC 9110, 8.8.3.2)."""
    value = req.get_header(header) or ""
    if value.strip() == "*":
        return True
    # Falcon's parser takes "*" in quotes for the wildcard, and a tag without quotes for a tag.
    return any(tag == etag and (weak or not mark) for mark, tag in _TAG.findall(value))
