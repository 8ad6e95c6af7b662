"""A browser without scripts, for the tests of the console's pages."""

from urllib.parse import urlencode

from falcon.testing import Result, TestClient

from db.users import Role
from tests.makers import PASSWORD, Visitor, visitor


class Browser:
    """A browser that keeps cookies and follows nothing."""

    def __init__(self, client: TestClient, address: str = "127.0.0.1") -> None:
        self._client, self._address = client, address
        self.cookies: dict[str, str] = {}

    def get(self, path: str, **headers: str) -> Result:
        return self._send("GET", path, headers=headers)

    def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Result:
        return self._send("POST", path, params=form, headers=headers)

    def upload(self, path: str, name: str, file: bytes) -> Result:
        """Sends the form of one file."""
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'
        body = head.encode() + file + b"\r\n--b--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        return self._send("POST", path, body=body, headers=headers)

    def _send(self, method: str, path: str, *, params=None, body=None, headers=None) -> Result:
        kinds = {"body": body} if body else {}
        if method == "POST" and not body:
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


def signed_in(client: TestClient, role: Role = Role.CUSTOMER) -> tuple[Browser, Visitor]:
    """A browser, and who is signed in there."""
    browser, who = Browser(client), visitor(client, role)
    sign_in(browser, who)
    return browser, who
