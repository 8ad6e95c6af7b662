"""A visit to a page of the console: who asks, the API on their behalf, and the response."""

import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import date, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from uuid import UUID

import falcon
from falcon import Request, Response

from api.console.client import Api, ApiError, Data
from api.console.rendering import Templates
from api.http import admission
from api.http.body import ValidationFailed
from api.middleware import authentication
from api.security.permissions import ROLES_BY_PERMISSION, Permission
from api.security.tokens import REFRESH_LIFETIME
from db.core import request_context
from db.users import Role

# The cookies. Scripts cannot read them, and no other path than /console gets them.
_ACCESS, _REFRESH, _NOTICE, _THEME = (
    f"paywright_{name}" for name in ("access", "refresh", "notice", "theme")
)
_THEME_LIFETIME_S, _NOTICE_LIFETIME_S = 365 * 86400, 60
SIGN_IN = "/console/sign-in"
_PASSED_ON = {
    *("content-type", "content-length", "content-disposition", "cache-control"),
    *("retry-after", "last-event-id", "x-accel-buffering"),
}
_MAX_FIELDS = 200
_PASSWORDS = ("password", "currentPassword", "newPassword")
# The last day of a filter is included: `to` becomes the start of the next day (UTC).
_DAYS_LATER = {"from": timedelta(0), "to": timedelta(days=1)}


@dataclass
class Console:
    """What all pages share: the application, the templates, and where it runs.

    `public_url` is where browsers find the application; `environment` is APP_ENV; `breakable` says that the
    API has routes that break this stack. `pages` are those of api/console/routes.py, for the navigation.
    `schemas` are those of the OpenAPI document, read for the first page that needs them.
    """

    app: Callable[..., Any]
    templates: Templates
    _: KW_ONLY
    public_url: str
    environment: str
    breakable: bool = False
    pages: list[Any] = field(default_factory=list)
    schemas: dict[str, Any] = field(default_factory=dict)


class Visit:
    """One request for a page, and its response."""

    def __init__(self, console: Console, req: Request, resp: Response) -> None:
        self.console, self.req, self._resp = console, req, resp
        self.api = Api(console.app, req)
        # As GET /auth/me shows it; empty before the sign-in.
        self.user: Mapping[str, Any] = {}
        # For forms: browsers then say which origin a POST comes from, and no other site learns our paths.
        resp.set_header("Referrer-Policy", "same-origin")

    @functools.cached_property
    def form(self) -> dict[str, str]:
        """The fields of the form that was sent, without those left empty. Raises ValidationFailed.

        Spaces around a text are removed, but those of a password belong to it.
        """
        try:
            fields = parse_qsl(self.req.context.raw.decode(errors="replace"), max_num_fields=_MAX_FIELDS)
        except ValueError:
            raise ValidationFailed.of("form", f"must have at most {_MAX_FIELDS} fields") from None
        typed = {name: value if name in _PASSWORDS else value.strip() for name, value in fields}
        return {name: value for name, value in typed.items() if value}

    def fields(self, *names: str) -> dict[str, str]:
        """Returns these fields of the form, without those left empty."""
        return {name: self.form[name] for name in names if name in self.form}

    def texts(self, *names: str) -> dict[str, str]:
        """Returns these fields of the form; one left empty is an empty text."""
        return {name: self.form.get(name, "") for name in names}

    def query(self, *names: str) -> dict[str, str]:
        """Returns these parameters of the page's query string, without those left empty."""
        values = {name: (self.req.get_param(name) or "").strip() for name in names}
        return {name: value for name, value in values.items() if value}

    def identify(self) -> None:
        """Finds the user by the cookies; refreshes expired tokens. Raises ApiError."""
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
                self._keep(self.api.post("/auth/refresh", {"refreshToken": refresh}))
            except ApiError as error:
                if error.status not in (400, 401):
                    raise
                self.end()

    def begin(self, auth: Mapping[str, Any]) -> None:
        """Takes over the session of a sign-in, and ends the one that this browser had."""
        if self.user:
            # Refused if that session has ended meanwhile.
            with contextlib.suppress(ApiError):
                self.api.post("/auth/logout")
        self._keep(auth)

    def _keep(self, auth: Mapping[str, Any]) -> None:
        """Keeps the tokens of an AuthResult in the cookies."""
        self.api.token, self.user = auth["accessToken"], auth["user"]
        self._set_cookie(_ACCESS, auth["accessToken"], int(auth["expiresIn"]))
        self._set_cookie(_REFRESH, auth["refreshToken"], int(REFRESH_LIFETIME.total_seconds()))

    def end(self) -> None:
        """Forgets the tokens."""
        self.api.token, self.user = None, {}
        self._unset_cookies(_ACCESS, _REFRESH)

    def require(self, permission: Permission) -> None:
        """Raises Forbidden for users who may not send a form, before they have filled it in."""
        role = Role(self.user["role"])
        if role in ROLES_BY_PERMISSION[permission]:
            return
        context = replace(request_context.current(), user_id=UUID(self.user["id"]))
        with request_context.acting_as(context):
            admission.connect()
            try:
                authentication.deny(role, permission)
            finally:
                # Before the response: the error page calls the API, which takes its own connection.
                admission.disconnect()

    def set_theme(self, theme: str) -> None:
        """Keeps the choice of light or dark; anything else leaves it to the browser."""
        if theme in ("light", "dark"):
            self._set_cookie(_THEME, theme, _THEME_LIFETIME_S)
        else:
            self._unset_cookies(_THEME)

    def schemas(self) -> dict[str, Any]:
        """Returns the schemas of the API's document. They do not change, so they are asked for once."""
        if not self.console.schemas:
            document = json.loads(self.api.send("GET", "/openapi.json").content())
            self.console.schemas = document["components"]["schemas"]
        return self.console.schemas

    def search(self, path: str, query: Mapping[str, str]) -> tuple[Data | None, ApiError | None]:
        """Sends a GET with what a visitor has typed; returns the data, or why not. Raises ApiError."""
        try:
            return self.api.get(path, _as_moments(query)), None
        except ApiError as refused:
            if refused.status != 400:
                raise
            return None, refused

    def show(self, template: str, *, error: ApiError | None = None, status: int = 200, **values: Any) -> None:
        """Sends a page, with the status of the `error` that it shows, if any."""
        notice = self._cookie(_NOTICE)
        if notice:
            self._unset_cookies(_NOTICE)
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
            read_only=bool(self.user) and self._is_read_only(),
            notice=unquote(notice) if notice else "",
        ).encode()

    def go(self, path: str, notice: str = "") -> None:
        """Sends the browser to another page of the console, which shows the notice once."""
        if notice:
            self._set_cookie(_NOTICE, quote(notice), _NOTICE_LIFETIME_S)
        self._resp.status = 303
        self._resp.set_header("Location", own_path(path))

    def no_content(self) -> None:
        """Sends a 204, after which a browser does not try to open the event stream again."""
        self._resp.status = 204

    def pass_on(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        change: Callable[[Iterable[bytes]], Iterable[bytes]] = iter,
    ) -> None:
        """Sends the response of the API to a GET: a download, or the event stream, changed on its way."""
        reply = self.api.send("GET", path, query=_as_moments(query or {}), headers=headers)
        self._resp.status = reply.status
        for name in _PASSED_ON & reply.headers.keys():
            self._resp.set_header(name, reply.headers[name])
        if self._resp.content_type == falcon.MEDIA_JSON:
            # An error, which becomes a page.
            self._resp.data = reply.content()
        else:
            self._resp.stream = change(reply.chunks)

    def _navigation(self) -> list[dict[str, Any]]:
        role = self.user.get("role")
        pages = [each for each in self.console.pages if each.label and role in each.roles]
        groups = itertools.groupby(pages, lambda each: each.group if role == Role.ADMIN else "")
        return [{"name": name, "pages": list(found)} for name, found in groups]

    def _is_read_only(self) -> bool:
        try:
            return bool(self.api.get("/maintenance")["readOnly"])
        except ApiError:
            # The rest of the page shows what is wrong.
            return False

    def _cookie(self, name: str) -> str | None:
        values = self.req.get_cookie_values(name)
        return values[0] if values else None

    def _set_cookie(self, name: str, value: str, max_age_s: int) -> None:
        is_https = self.console.public_url.startswith("https:")
        self._resp.set_cookie(
            *(name, value), max_age=max_age_s, path="/console", same_site="Lax", secure=is_https
        )

    def _unset_cookies(self, *names: str) -> None:
        for name in names:
            self._resp.unset_cookie(name, path="/console", same_site="Lax")


def _as_moments(query: Mapping[str, str]) -> dict[str, str]:
    """Returns the query with `from` and `to` as moments: `2026-03-01T00:00:00Z`."""
    return {name: _moment(name, value) for name, value in query.items()}


def _moment(name: str, value: str) -> str:
    try:
        return f"{date.fromisoformat(value) + _DAYS_LATER[name]}T00:00:00Z"
    except (KeyError, ValueError, OverflowError):
        # Another parameter, or not a day: the API then says what is wrong.
        return value


def own_path(path: str) -> str:
    """Returns the path if it is one of the console, otherwise the console's first page."""
    parts = urlsplit(path)
    is_own = not (parts.scheme or parts.netloc) and (parts.path + "/").startswith("/console/")
    # A header has no other characters. A path that is sent has them encoded.
    is_plain = path.isascii() and path.isprintable() and not {" ", "\\"} & set(path)
    return path if is_own and is_plain else "/console"
