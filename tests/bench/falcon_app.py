"""Falcon with one route that does nothing: what the web server itself costs."""

import falcon

RESPONSE = {"status": "ok"}


class Nothing:
    """GET /health."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answers with a constant."""
        resp.media = RESPONSE


application = falcon.App()
application.add_route("/health", Nothing())
