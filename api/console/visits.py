"""A visit to a page of the console: who asks, the API on their behalf, and the response."""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import falcon
from falcon import Request, Response

from api.console.client import Api, ApiError, Data
from api.console.rendering import Templates
from api.http.body import ValidationFailed
from api.http.operation import RawOperation

# The cookies. Scripts cannot read them, and no other path than /console gets them.
_ACCESS, _REFRESH, _NOTICE, _THEME = (
    f"paywright_{name}" for name in ("access", "refresh", "notice", "theme")
)
_REFRESH_LIFETIME_S, _THEME_LIFETIME_S, _NOTICE_LIFETIME_S = 7 * 86400, 365 * 86400, 60
SIGN_IN = "/console/sign-in"
_PASSED_ON = {
    *("content-type", "content-length", "content-disposition", "cache-control"),
    *("retry-after", "last-event-id", "x-accel-buffering"),
}
_MAX_FIELDS = 200


class CrossOriginForm(falcon.HTTPError):
    """A form of another site was sent here."""

    def __init__(self) -> None:
        super().__init__(falcon.HTTP_400)


class Console:
    """What all pages share: the application, the templates, and where it runs.

    `public_url` is where browsers find it; `environment` is APP_ENV; `breakable` if the API has routes that
    break this stack. `pages` are those of api/console/routes.py, for the navigation.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        templates: Templates,
        *,
        public_url: str,
        environment: str,
        breakable: bool = False,
    ) -> None:
        self.app, self.templates = app, templates
        self.public_url, self.environment, self.breakable = public_url, environment, breakable
        self.pages: list[Any] = []


class Resource:
    """What the resources of all pages have in common: the console."""

    def __init__(self, console: Console) -> None:
        self.console = console


class Visit:
    """One request for a page, and its response."""

    def __init__(self, console: Console, req: Request, resp: Response) -> None:
        self.console, self.req, self._resp = console, req, resp
        self.api = Api(console.app, req)
        # As GET /auth/me shows it; None before the sign-in.
        self.user: dict[str, Any] | None = None
        # For forms: browsers then say which origin a POST comes from, and no other site learns our paths.
        resp.set_header("Referrer-Policy", "same-origin")

    @functools.cached_property
    def form(self) -> dict[str, str]:
        """The fields of the form that was sent, without those left empty. Raises ValidationFailed."""
        try:
            fields = parse_qsl(self.req.context.raw.decode(errors="replace"), max_num_fields=_MAX_FIELDS)
        except ValueError:
            raise ValidationFailed.of("form", f"must have at most {_MAX_FIELDS} fields") from None
        return {name: text for name, value in fields if (text := value.strip())}

    def fields(self, *names: str) -> dict[str, str]:
        """These fields of the form, without those left empty."""
        return {name: self.form[name] for name in names if name in self.form}

    def query(self, *names: str) -> dict[str, str]:
        """These parameters of the page's address, without those left empty."""
        values = {name: (self.req.get_param(name) or "").strip() for name in names}
        return {name: value for name, value in values.items() if value}

    def identify(self) -> None:
        """Finds the user by the cookies, with a fresh access token if that is due. Raises ApiError."""
        self.api.token = self._cookie(_ACCESS)
        if self.api.token:
            try:
                self.user = self.api.get("/auth/me")
                return
            except ApiError as error:
                if error.status != 401:
                    raise
                self.api.token = None
        if refresh := self._cookie(_REFRESH):
            try:
                self.begin(self.api.post("/auth/refresh", {"refreshToken": refresh}))
            except ApiError as error:
                if error.status not in (400, 401):
                    raise
                self.end()

    def begin(self, auth: Mapping[str, Any]) -> None:
        """Keeps the tokens of an AuthResult in the cookies."""
        self.api.token, self.user = auth["accessToken"], auth["user"]
        self._set_cookie(_ACCESS, auth["accessToken"], int(auth["expiresIn"]))
        self._set_cookie(_REFRESH, auth["refreshToken"], _REFRESH_LIFETIME_S)

    def end(self) -> None:
        """Forgets the tokens."""
        self.api.token = self.user = None
        for name in (_ACCESS, _REFRESH):
            self._resp.unset_cookie(name, path="/console", same_site="Lax")

    @property
    def refresh_token(self) -> str | None:
        """The refresh token of the session."""
        return self._cookie(_REFRESH)

    def set_theme(self, theme: str) -> None:
        """Keeps the choice of light or dark; anything else leaves it to the browser."""
        if theme in ("light", "dark"):
            self._set_cookie(_THEME, theme, _THEME_LIFETIME_S)
        else:
            self._resp.unset_cookie(_THEME, path="/console", same_site="Lax")

    def search(self, path: str, query: Mapping[str, Any]) -> tuple[Data | None, ApiError | None]:
        """Sends a GET with what a visitor has typed; returns the data, or why not. Raises ApiError."""
        try:
            return self.api.get(path, query), None
        except ApiError as refused:
            if refused.status != 400:
                raise
            return None, refused

    def show(self, template: str, *, error: ApiError | None = None, status: int = 200, **values: Any) -> None:
        """Sends a page; one that shows an error of the API has its status."""
        notice = self._cookie(_NOTICE)
        if notice:
            self._resp.unset_cookie(_NOTICE, path="/console", same_site="Lax")
        self._resp.status = error.status if error else status
        if error and "retry-after" in error.headers:
            self._resp.set_header("Retry-After", error.headers["retry-after"])
        self._resp.content_type = "text/html; charset=utf-8"
        self._resp.data = self.console.templates.render(
            template,
            **values,
            error=error,
            visit=self,
            user=self.user,
            navigation=self._navigation(),
            theme=self._cookie(_THEME),
            read_only=self.user is not None and self._is_read_only(),
            notice=unquote(notice) if notice else "",
        ).encode()

    def go(self, path: str, notice: str = "") -> None:
        """Sends the browser to another page of the console, which shows the notice once."""
        if notice:
            self._set_cookie(_NOTICE, quote(notice), _NOTICE_LIFETIME_S)
        self._resp.status = 303
        self._resp.set_header("Location", own_path(path))

    def no_content(self) -> None:
        """Sends nothing: a browser then does not ask for a stream again."""
        self._resp.status = 204

    def pass_on(
        self,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        change: Callable[[Iterable[bytes]], Iterable[bytes]] = iter,
    ) -> None:
        """Sends the response of the API to a GET: a download, or the event stream, changed on its way."""
        reply = self.api.send("GET", path, query=query, headers=headers)
        self._resp.status = reply.status
        for name in _PASSED_ON & reply.headers.keys():
            self._resp.set_header(name, reply.headers[name])
        if self._resp.content_type == falcon.MEDIA_JSON:
            # An error, which becomes a page.
            self._resp.data = reply.content()
        else:
            self._resp.stream = change(reply.chunks)

    def _navigation(self) -> list[dict[str, Any]]:
        role = self.user["role"] if self.user else None
        pages = [each for each in self.console.pages if each.label and role in each.roles]
        groups = itertools.groupby(pages, lambda each: each.group if role == "ADMIN" else "")
        return [{"name": name, "pages": list(found)} for name, found in groups]

    def _is_read_only(self) -> bool:
        try:
            return bool(self.api.get("/maintenance")["readOnly"])
        except ApiError:
            # The page says what else is wrong.
            return False

    def _cookie(self, name: str) -> str | None:
        values = self.req.get_cookie_values(name)
        return values[0] if values else None

    def _set_cookie(self, name: str, value: str, max_age_s: int) -> None:
        is_https = self.console.public_url.startswith("https:")
        self._resp.set_cookie(
            *(name, value), max_age=max_age_s, path="/console", same_site="Lax", secure=is_https
        )


def page(*, public: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declares a responder of a page: `on_get(self, visit, …)` or `on_post(self, visit, …)`.

    Who is not signed in is sent to the sign-in, unless the page is public. A POST of another site's form is
    refused.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def respond(resource: Any, req: Request, resp: Response, **params: Any) -> None:
            if req.method == "POST":
                _require_same_origin(req)
            visit = Visit(resource.console, req, resp)
            visit.identify()
            if visit.user is None and not public:
                back = "/console" if req.method == "POST" else req.relative_uri
                raise falcon.HTTPSeeOther(f"{SIGN_IN}?next={quote(back, safe='')}")
            function(resource, visit, **params)

        return RawOperation(media="text/html")(respond)

    return decorate


def own_path(path: str) -> str:
    """Returns the path if it is one of the console, otherwise the console's first page."""
    parts = urlsplit(path)
    is_own = not (parts.scheme or parts.netloc) and (parts.path + "/").startswith("/console/")
    # A header has no other characters. A path that is sent has them encoded.
    is_plain = path.isascii() and path.isprintable() and not {" ", "\\"} & set(path)
    return path if is_own and is_plain else "/console"


def _require_same_origin(req: Request) -> None:
    """Refuses a form of another site: SameSite=Lax alone would trust every subdomain. Raises CrossOriginForm.

    A client that is no browser sends neither header, and holds no cookies that another site could use.
    """
    site, origin = req.get_header("Sec-Fetch-Site"), req.get_header("Origin")
    if site:
        refused = site not in ("same-origin", "none")
    else:
        refused = origin is not None and urlsplit(origin).netloc != req.netloc
    if refused:
        raise CrossOriginForm
