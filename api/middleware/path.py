"""The path is taken as it stands: an address has one spelling, for all middleware and for the router."""

from falcon import HTTPNotFound, Request, Response


class Path:
    """Refuses empty segments and whatever is percent-encoded.

    The router would look past a second slash, where the rate limit does not. No path of ours has a character
    that must be encoded: `%2F` and `%6d` only hide a path from rules that somebody has written in front.
    """

    def process_request(self, req: Request, _resp: Response) -> None:
        """Looks at the path as it was sent, and as it was decoded. Raises HTTPNotFound."""
        sent = req.env.get("RAW_URI", "").partition("?")[0]
        if "//" in req.path or "%" in sent:
            raise HTTPNotFound
