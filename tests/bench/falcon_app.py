"""Falcon with one route that does nothing, on our web server: what that costs by itself."""

import sys

# Patches for greenlets, before anything else is imported.
import api.__main__  # noqa: F401  isort: skip

import falcon
from gunicorn.app.wsgiapp import WSGIApplication

RESPONSE = {"status": "ok"}


class Nothing:
    """GET /health."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answers with a constant."""
        resp.media = RESPONSE


application = falcon.App()
application.add_route("/health", Nothing())


if __name__ == "__main__":
    sys.argv[1:] = ["--config", "python:api.gunicorn", "tests.bench.falcon_app:application"]
    WSGIApplication().run()
