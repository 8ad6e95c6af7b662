"""The path is taken as it stands: an address has one spelling, for the gates and for the router alike."""

from falcon import HTTPNotFound, Request, Response


class Path:
    """Refuses empty segments. The router would look past a second slash, where the rate limit does not."""

    def process_request(self, req: Request, _resp: Response) -> None:
        """Also what was sent as `%2F` has become a slash by now."""
        if "//" in req.path:
            raise HTTPNotFound
