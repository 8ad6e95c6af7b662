"""Registration, sign-in, tokens, sign-out."""

from typing import Any
from uuid import UUID

import jwt
import pytest
from freezegun import freeze_time

from api.security.passwords import Passwords
from db import audit_log, event_log, sessions, users
from db.users import Role
from tests import makers
from tests.makers import PASSWORD, SECRETS, Visitor, error, visitor, work

NOON, NEXT = "2026-03-01T12:00:00Z", "2026-03-01T12:00:%02dZ"


@pytest.fixture
def me(client) -> Visitor:
    return visitor(client)


def anyone(client) -> Visitor:
    return Visitor(client)


def reason(result) -> str:
    assert error(result) == (401, "UNAUTHORIZED")
    assert result.headers["WWW-Authenticate"] == "Bearer"
    return result.json["error"]["details"]["reason"]


def test_registering_signs_in(client):
    email = makers.address()
    body = {"email": f"  {email} ", "password": PASSWORD, "name": "Jo  Doe"}
    result = anyone(client).post("/auth/register", body)
    assert result.status_code == 201
    data = result.json["data"]
    assert data.keys() == {"user", "accessToken", "refreshToken", "tokenType", "expiresIn"}
    assert (data["tokenType"], data["expiresIn"]) == ("Bearer", 900)
    user = data["user"]
    assert user.keys() == {"id", "email", "name", "role", "emailVerified", "createdAt", "updatedAt"}
    assert (user["email"], user["name"], user["role"], user["emailVerified"]) == (
        email,
        "Jo  Doe",
        "CUSTOMER",
        False,
    )
    assert Visitor(client, data["accessToken"]).get("/auth/me").json["data"] == user


def test_a_vendor_can_register_an_admin_cannot(client):
    body = {"email": makers.address(), "password": PASSWORD, "name": "Jo"}
    assert error(anyone(client).post("/auth/register", {**body, "role": "ADMIN"})) == (
        400,
        "VALIDATION_ERROR",
    )
    assert (
        anyone(client).post("/auth/register", {**body, "role": "VENDOR"}).json["data"]["user"]["role"]
        == "VENDOR"
    )


def test_an_address_is_unique_ignoring_case(client):
    email = makers.address()
    visitor(client, email=email)
    body = {"email": email.upper(), "password": PASSWORD, "name": "Jo"}
    assert error(anyone(client).post("/auth/register", body)) == (409, "EMAIL_TAKEN")
    assert (
        anyone(client).post("/auth/login", {"email": email.upper(), "password": PASSWORD}).status_code == 200
    )


@pytest.mark.parametrize(
    "email", ["", "nobody", "a@", "@b.example", "a b@c.example", "x" * 300 + "@c.example", 5]
)
def test_an_invalid_address_is_refused(client, email):
    body = {"email": email, "password": PASSWORD, "name": "Jo"}
    assert error(anyone(client).post("/auth/register", body)) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("password", ["short", "x" * 129, "jo@example.com", "Jo Longname", 12345678])
def test_a_bad_password_is_refused(client, password):
    body = {"email": "jo@example.com", "name": "Jo Longname", "password": password}
    result = anyone(client).post("/auth/register", body)
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == ["password"]


def test_every_character_of_a_long_password_counts(client):
    email, password = makers.address(), ("crème brûlée " * 12)[:127]
    anyone(client).post("/auth/register", {"email": email, "password": password + "1", "name": "Jo"})
    login = {"email": email, "password": password + "2"}
    assert error(anyone(client).post("/auth/login", login)) == (401, "INVALID_CREDENTIALS")
    assert anyone(client).post("/auth/login", {**login, "password": password + "1"}).status_code == 200


def test_an_unknown_address_and_a_wrong_password_are_refused_alike(client, me):
    wrong = anyone(client).post("/auth/login", {"email": me.user["email"], "password": "wrong password"})
    unknown = anyone(client).post("/auth/login", {"email": makers.address(), "password": "wrong password"})
    nonsense = anyone(client).post("/auth/login", {"email": "nonsense", "password": ""})
    assert error(wrong) == (401, "INVALID_CREDENTIALS")
    assert wrong.content == unknown.content == nonsense.content


def test_an_unknown_address_takes_as_long_as_a_wrong_password(client, me, monkeypatch):
    """Both compare one hash; tests/api/security/test_passwords.py has the costs of the comparisons."""
    compared: list[str | None] = []
    matches = Passwords.matches

    def recorded(self: Passwords, password: str, hashed: str | None) -> bool:
        compared.append(hashed)
        return matches(self, password, hashed)

    monkeypatch.setattr(Passwords, "matches", recorded)
    for email in (me.user["email"], makers.address()):
        anyone(client).post("/auth/login", {"email": email, "password": "wrong password"})
    user = users.get(UUID(me.user["id"]))
    assert user
    assert compared == [user.password_hash, None]


def test_an_inactive_account_cannot_sign_in_or_use_its_tokens(client, me):
    users.User.update(active=False).where(users.User.id == me.user["id"]).execute()
    login = {"email": me.user["email"], "password": PASSWORD}
    assert error(anyone(client).post("/auth/login", login)) == (401, "INVALID_CREDENTIALS")
    assert reason(me.get("/auth/me")) == "token_revoked"


def test_a_missing_token_is_refused(client):
    assert reason(anyone(client).get("/auth/me")) == "token_missing"
    assert reason(anyone(client).get("/auth/me", headers={"Authorization": "Basic abc"})) == "token_missing"


def test_a_forged_token_is_invalid(client, me):
    claims = jwt.decode(me.token, options={"verify_signature": False})
    # Without `alg`: PyJWT would take it over its own argument.
    header = {name: jwt.get_unverified_header(me.token)[name] for name in ("kid", "typ")}
    secret = SECRETS["JWT_SECRET"]

    def forged(claims: Any = claims, key: Any = secret, algorithm: str = "HS256", **headers: Any) -> str:
        return jwt.encode(claims, key, algorithm, {**header, **headers})

    for token in (
        "x",
        "a.b.c",
        me.token[:-2],
        me.refresh_token,
        forged(key="another secret that is long enough, too"),
        forged(key=None, algorithm="none"),
        forged(key=secret * 2, algorithm="HS512"),
        forged(typ="JWT"),
        forged(kid="another"),
        jwt.encode(claims, secret, "HS256"),
        forged({**claims, "iss": "somebody"}),
        forged({**claims, "aud": "something"}),
        forged({**claims, "sid": 5}),
        forged({"exp": claims["exp"]}),
    ):
        assert reason(Visitor(client, token).get("/auth/me")) == "token_invalid"
    assert Visitor(client, forged()).get("/auth/me").status_code == 200


def test_an_access_token_expires_after_fifteen_minutes(client):
    with freeze_time(NOON) as clock:
        me = visitor(client)
        claims = jwt.decode(me.token, options={"verify_signature": False})
        assert claims["exp"] - claims["iat"] == 900
        assert claims.keys() == {"userId", "email", "role", "iat", "exp", "sid", "jti", "iss", "aud"}
        clock.tick(899)
        assert me.get("/auth/me").status_code == 200
        clock.tick(2)
        assert reason(me.get("/auth/me")) == "token_expired"


def test_a_refresh_token_is_exchanged_for_new_tokens(client, me):
    first = anyone(client).post("/auth/refresh", {"refreshToken": me.refresh_token})
    assert first.status_code == 200
    data = first.json["data"]
    assert data["refreshToken"] != me.refresh_token
    assert Visitor(client, data["accessToken"]).get("/auth/me").status_code == 200
    assert anyone(client).post("/auth/refresh", {"refreshToken": data["refreshToken"]}).status_code == 200


def test_tabs_that_refresh_within_ten_seconds_get_the_same_token(client):
    with freeze_time(NOON) as clock:
        me = visitor(client)
        answers = []
        for _ in range(20):
            answers.append(
                anyone(client).post("/auth/refresh", {"refreshToken": me.refresh_token}).json["data"]
            )
            clock.tick(0.5)
    assert len({answer["refreshToken"] for answer in answers}) == 1
    assert sessions.Session.select().where(sessions.Session.user_id == me.user["id"]).count() == 1


def test_a_reused_refresh_token_ends_the_session(client):
    with freeze_time(NOON) as clock:
        me = visitor(client)
        successor = anyone(client).post("/auth/refresh", {"refreshToken": me.refresh_token}).json["data"]
        clock.tick(10.1)
        stolen = anyone(client).post("/auth/refresh", {"refreshToken": me.refresh_token})
        assert error(stolen) == (401, "TOKEN_REUSED")
        assert reason(Visitor(client, successor["accessToken"]).get("/auth/me")) == "token_revoked"
        thief = anyone(client).post("/auth/refresh", {"refreshToken": successor["refreshToken"]})
        assert reason(thief) == "token_revoked"
        work()
    assert audit_log.AuditLog.select().where(audit_log.AuditLog.action == "auth.token.reused").count() == 1


def test_a_refresh_token_expires_after_seven_days(client):
    with freeze_time(NOON) as clock:
        me = visitor(client)
        clock.tick(7 * 86400)
        result = anyone(client).post("/auth/refresh", {"refreshToken": me.refresh_token})
        assert reason(result) == "token_expired"
    unknown = anyone(client).post("/auth/refresh", {"refreshToken": "unknown"})
    assert reason(unknown) == "token_invalid"
    assert unknown.json["error"]["message"] == "This needs a valid refresh token."


def test_only_the_digest_of_a_refresh_token_is_stored(me):
    [kept] = sessions.RefreshToken.select().where(sessions.RefreshToken.user_id == me.user["id"])
    assert len(kept.token_hash) == 64
    assert me.refresh_token not in kept.token_hash


def test_signing_out_ends_only_this_session(client, me):
    login = {"email": me.user["email"], "password": PASSWORD}
    other = Visitor(client, anyone(client).post("/auth/login", login).json["data"]["accessToken"])
    assert me.post("/auth/logout").status_code == 200
    assert reason(me.get("/auth/me")) == "token_revoked"
    assert reason(anyone(client).post("/auth/refresh", {"refreshToken": me.refresh_token})) == "token_revoked"
    assert other.get("/auth/me").status_code == 200

    third = Visitor(client, anyone(client).post("/auth/login", login).json["data"]["accessToken"])
    assert other.post("/auth/logout", {"everywhere": True}).status_code == 200
    assert reason(third.get("/auth/me")) == "token_revoked"


def test_a_new_role_takes_effect_at_the_next_request(client, me):
    users.User.update(role=Role.VENDOR).where(users.User.id == me.user["id"]).execute()
    assert error(me.post("/payments", {"type": "payment", "amount": 1})) == (403, "FORBIDDEN")


def test_registration_sign_in_and_sign_out_are_audited_and_emitted(client):
    agent = {"User-Agent": "a browser", "X-Request-ID": "request-77"}
    email = makers.address()
    body = {"email": email, "password": PASSWORD, "name": "Jo"}
    data = anyone(client).post("/auth/register", body, headers=agent).json["data"]
    anyone(client).post("/auth/login", {"email": email, "password": PASSWORD}, headers=agent)
    anyone(client).post("/auth/login", {"email": email, "password": "wrong"}, headers=agent)
    anyone(client).post("/auth/login", {"email": makers.address(), "password": "wrong"}, headers=agent)
    Visitor(client, data["accessToken"]).post("/auth/logout", headers=agent)
    work()

    rows = list(audit_log.AuditLog.select().where(audit_log.AuditLog.request_id == "request-77"))
    assert [row.action for row in sorted(rows, key=lambda row: row.created_at)] == [
        "auth.user.registered",
        "auth.user.signed_in",
        "auth.user.sign_in_failed",
        "auth.user.sign_in_failed",
        "auth.user.signed_out",
    ]
    assert {row.user_agent for row in rows} == {"a browser"}
    assert {row.ip_address for row in rows} == {"127.0.0.1"}
    assert [str(row.user_id) for row in rows].count(data["user"]["id"]) == 4
    emitted = [event for event in event_log.after(0, 100) if event.request_id == "request-77"]
    assert [event.type for event in emitted] == [
        "auth:user:registered",
        "auth:user:logged_in",
        "auth:user:logged_out",
    ]
    assert all("password" not in str(event.data) for event in emitted)


@pytest.mark.parametrize(
    "address", ["Jo.Doe+x@{}.example", "jo@münchen-{}.example", "{}@xn--mnchen-3ya.example"]
)
def test_sign_in_accepts_every_spelling_of_the_registered_address(client, address):
    email = address.format(makers.address().partition("@")[0])
    body = {"email": email, "password": PASSWORD, "name": "Jo"}
    registered = anyone(client).post("/auth/register", body)
    if registered.status_code == 400:
        pytest.fail(registered.text)
    for spelling in (email, email.upper(), f" {email} "):
        login = anyone(client).post("/auth/login", {"email": spelling, "password": PASSWORD})
        assert login.status_code == 200, spelling
        assert error(anyone(client).post("/auth/register", {**body, "email": spelling})) == (
            409,
            "EMAIL_TAKEN",
        )


@pytest.mark.parametrize("local", ["İstan", "ΟΔΟΣ", "e\u0301te", "Größe"])
def test_a_local_part_beyond_ascii_is_refused(client, local):
    body = {"email": f"{local}@example.com", "password": PASSWORD, "name": "Jo"}
    assert error(anyone(client).post("/auth/register", body)) == (400, "VALIDATION_ERROR")


# The flag of Scotland, which Unicode spells with invisible characters.
FLAG = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"


@pytest.mark.parametrize(
    "name",
    ["Jo\nDoe", "Jo\x01", "Jo\u202eeoD", "\u200b", "Jo\u2028Doe", f"Jo {FLAG[1:]}", FLAG[:-1], f"{FLAG}\n"],
)
def test_a_name_is_one_line(client, name):
    body = {"email": makers.address(), "password": PASSWORD, "name": name}
    assert error(anyone(client).post("/auth/register", body)) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "name", [" Jo ", "Zoë O'Brien-Smith", "山田 太郎", "👩‍👩‍👧 & Co", "علی‌رضا", f"Jo {FLAG}"]
)
def test_a_name_is_returned_as_sent(client, name):
    body = {"email": makers.address(), "password": PASSWORD, "name": name}
    assert anyone(client).post("/auth/register", body).json["data"]["user"]["name"] == name


def test_other_spellings_of_a_path_are_not_found(client):
    for path in ("//api/auth/login", "/%2Fapi/auth/login", "/api//auth/login", "///api/auth/login"):
        result = client.simulate_post(path, json={"email": "a@b.example", "password": "x"})
        assert error(result) == (404, "NOT_FOUND"), path


def test_a_token_issued_five_seconds_ahead_is_accepted(client):
    with freeze_time("2026-03-01T12:00:05Z"):
        me = visitor(client)
    with freeze_time(NOON):
        assert me.get("/auth/me").status_code == 200


@pytest.mark.parametrize("password", ["password", "12345678", "Password1", "qwertyuiop"])
def test_a_common_password_is_refused(client, password):
    body = {"email": makers.address(), "name": "Jo", "password": password}
    assert error(anyone(client).post("/auth/register", body)) == (400, "VALIDATION_ERROR")


def test_a_password_changed_during_a_sign_in_refuses_it(client, me, settings, monkeypatch):
    """bcrypt takes about 50 ms, during which a password change can commit."""
    match = Passwords.matches

    def change_meanwhile(self: Passwords, password: str, hashed: str | None) -> bool:
        same = match(self, password, hashed)
        users.change(UUID(me.user["id"]), password_hash=self.hash("a password of today"))
        return same

    monkeypatch.setattr(Passwords, "matches", change_meanwhile)
    login = anyone(client).post("/auth/login", {"email": me.user["email"], "password": PASSWORD})
    assert error(login) == (401, "INVALID_CREDENTIALS")


@pytest.mark.parametrize("email", ["x" * 65 + "@example.com", "a@xn--a.example"])
def test_an_address_that_mail_does_not_allow_is_refused(client, email):
    body = {"email": email, "password": PASSWORD, "name": "Jo"}
    assert error(anyone(client).post("/auth/register", body)) == (400, "VALIDATION_ERROR")
    assert (
        anyone(client).post("/auth/register", {**body, "email": "x" * 64 + "@example.com"}).status_code == 201
    )


def test_a_domain_in_another_script_is_stored_as_punycode(client):
    body = {"email": "Jo@пример.example", "password": PASSWORD, "name": "Jo"}
    user = anyone(client).post("/auth/register", body).json["data"]["user"]
    assert user["email"] == "Jo@xn--e1afmkfd.example"
    for spelling in ("jo@пример.example", "jo@xn--e1afmkfd.example"):
        login = {"email": spelling, "password": PASSWORD}
        assert anyone(client).post("/auth/login", login).status_code == 200
