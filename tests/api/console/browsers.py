"""A browser without scripts, for the tests of the console's pages."""

from urllib.parse import urlencode

from falcon.testing import Result, TestClient

from tests.makers import PASSWORD, Visitor


class Browser:
    """A browser that keeps cookies and follows nothing."""

    def __init__(self, client: TestClient, address: str = "127.0.0.1") -> None:
        self._client, self._address = client, address
        self.cookies: dict[str, str] = {}

    def get(self, path: str, **headers: str) -> Result:
        return self._send("GET", path, headers=headers)

    def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Result:
        return self._send("POST", path, params=form, headers=headers)

    def _send(self, method: str, path: str, *, params=None, headers=None) -> Result:
        kinds = {}
        if method == "POST":
            headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}
            kinds["body"] = urlencode(params or {})
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        result = self._client.simulate_request(
            method, path, headers=named, cookies=self.cookies, remote_addr=self._address, **kinds
        )
        for name, cookie in result.cookies.items():
            if cookie.max_age == 0 or not cookie.value:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = cookie.value
        return result


def sign_in(browser: Browser, who: Visitor, **form: str) -> Result:
    return browser.post("/console/sign-in", {"email": who.user["email"], "password": PASSWORD, **form})
