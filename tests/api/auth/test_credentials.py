"""Password changes and resets, e-mail verification, sessions, sign-in failures."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Any
from unicodedata import normalize
from unittest.mock import patch
from uuid import UUID

import pytest
from falcon.testing import TestClient
from freezegun import freeze_time
from zxcvbn.matching import dictionary_match

from actors import audit, housekeeping, mail
from actors.jobs import enqueue, transaction
from api.app import create_app
from api.auth import throttle
from api.auth.throttle import InvalidCredentials, TooManyFailures
from api.http.admission import Busy
from api.security.hashing_processes import CannotHash
from api.security.passwords import SCORED_CHARACTERS, Passwords, weakness
from db import audit_log, event_log, one_time_tokens, postgres, sessions, sign_in_failures, users
from db.core import times
from db.users import Role
from tests import makers
from tests.makers import PASSWORD, Visitor, error, invalid_fields, mailbox, registered, visitor, work
from tests.tables import JobRow

NOON = "2026-03-01T12:00:00Z"
ANOTHER = "another good password"


@pytest.fixture
def me(client) -> Visitor:
    return registered(client)


def sign_in(client, email: str, password: str = PASSWORD, **more):
    return Visitor(client).post("/auth/login", {"email": email, "password": password}, **more)


def is_live(client, result) -> bool:
    return Visitor(client, result.json["data"]["accessToken"]).get("/auth/me").status_code == 200


def change(user: Visitor, current: str = PASSWORD, new: str = ANOTHER):
    return user.send("PUT", "/auth/password", {"currentPassword": current, "newPassword": new})


def reset(client, token: str, new: str = ANOTHER):
    return Visitor(client).post("/auth/reset-password", {"token": token, "newPassword": new})


# --- password changes -------------------------------------------------------------------------------------------


def test_changing_the_password_ends_every_other_session(client, me):
    other = sign_in(client, me.user["email"])
    assert change(me).status_code == 200
    assert me.get("/auth/me").status_code == 200
    assert Visitor(client).post("/auth/refresh", {"refreshToken": me.refresh_token}).status_code == 200
    assert not is_live(client, other)
    assert error(sign_in(client, me.user["email"])) == (401, "INVALID_CREDENTIALS")
    assert sign_in(client, me.user["email"], ANOTHER).status_code == 200

    work()
    assert [message["Subject"] for message in mailbox].count("Your password was changed") == 1
    assert [event.type for event in event_log.after(0, 100)].count("auth:password:changed") == 1
    assert (
        audit_log.AuditLog.select().where(audit_log.AuditLog.action == "auth.password.changed").count() == 1
    )


def test_a_wrong_current_password_changes_nothing(client, me):
    assert error(change(me, current="wrong")) == (401, "INVALID_CREDENTIALS")
    assert sign_in(client, me.user["email"]).status_code == 200


@pytest.mark.parametrize(
    "new",
    [
        *("short", "x" * 129, "password123", "Sunshine", "Some One", " some one ", "aaaaaaaa", "paywright"),
        *("Paywright123", "Password123!", "P@ssw0rd2024", "customer1", "Some One1", "11111111112"),
    ],
)
def test_a_bad_new_password_is_refused(me, new):
    assert invalid_fields(change(me, new=new)) == {"newPassword"}


def test_a_hash_of_another_cost_is_renewed_at_sign_in(client, me, settings):
    dearer = Passwords(pepper=settings.password_pepper, rounds=5).hash(PASSWORD)
    users.change(UUID(me.user["id"]), password_hash=dearer)
    assert sign_in(client, me.user["email"]).status_code == 200
    renewed = users.get(me.user["id"])
    assert renewed is not None
    assert renewed.password_hash.startswith("$2b$04$")
    assert sign_in(client, me.user["email"]).status_code == 200


def test_passwords_are_compared_in_unicode_nfc(client):
    composed, apart = "cr\u00e8me br\u00fbl\u00e9e au th\u00e9", "cre\u0300me bru\u0302le\u0301e au the\u0301"
    body = {"email": makers.address(), "password": apart, "name": "Some One"}
    assert Visitor(client).post("/auth/register", body).status_code == 201
    for spelling in (composed, apart):
        assert sign_in(client, body["email"], spelling).status_code == 200
    body = {"email": makers.address(), "password": composed, "name": "Some One"}
    assert Visitor(client).post("/auth/register", body).status_code == 201
    assert sign_in(client, body["email"], apart).status_code == 200


@pytest.mark.parametrize(("new", "message"), [("zq7 vx", "at least 8"), ("zq7 vx " * 19, "at most 128")])
def test_the_error_of_another_length_speaks_of_characters(me, new, message):
    [field] = change(me, new=new).json["error"]["details"]["fields"]
    assert field == {"field": "newPassword", "message": f"String should have {message} characters"}


def test_a_password_is_as_long_as_its_composed_spelling(client, me):
    """Some keyboards send `é` as two code points; U+1F82 is one character that can take four."""
    longest = ("\u1f82 qv7 m\u00e9w \u00fcx9 zk " * 8)[:128]
    apart = normalize("NFD", longest)
    assert len(apart) > 128
    body = {"email": makers.address(), "password": apart, "name": "Some One"}
    assert Visitor(client).post("/auth/register", body).status_code == 201
    assert sign_in(client, body["email"], longest).status_code == 200
    seven = normalize("NFD", "z\u00e9q\u00fc\u00f6v9")
    assert len(seven) == 10
    for wrong in (seven, f"{apart}x", "\u1f82" * 128 + "x", "e\u0301" * 129, "\u0301" * 500_000):
        assert invalid_fields(change(me, new=wrong)) == {"newPassword"}
        assert invalid_fields(Visitor(client).post("/auth/register", {**body, "password": wrong})) == {
            "password"
        }


@pytest.mark.parametrize("password", ["robindoe1", "RobinDoe77", "r0bindoe1", "jane.roe1", "janeroe77"])
def test_a_name_or_address_with_a_number_is_a_weak_password(password):
    assert weakness(password, email="jane.roe@shop.example", name="Robin Doe") is not None


def test_a_long_password_is_as_strong_as_its_stronger_end():
    assert weakness("x" * 100, email="", name="") is not None
    assert weakness("x" * 80 + " four boats", email="", name="") is None


def test_scoring_a_password_is_bounded():
    tried: list[int] = []

    def counted(password: str, _ranked_dictionaries: Any) -> list[Any]:
        tried.append(len(password))
        return dictionary_match(password, _ranked_dictionaries)

    # Each of these characters can stand for a letter; zxcvbn would try all combinations, for seconds.
    with patch("zxcvbn.matching.dictionary_match", counted):
        assert weakness("4@8({[<369&!1|0$57+%2" * 6, email="", name="") is None
    assert max(tried) == SCORED_CHARACTERS
    assert len(tried) < 200


def test_parallel_requests_do_not_share_their_context_words():
    context = {f"Zorbalax{n} Quuxley": f"zorbalax{n}quuxley" for n in range(8)}

    def are_weak(name: str) -> bool:
        return all(weakness(context[name], email="", name=name) for _ in range(5))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(are_weak, context))
    assert weakness("zorbalax7quuxley", email="", name="Some One") is None


# --- password resets ------------------------------------------------------------------------------------------


def test_a_reset_link_works_once(client, me):
    assert (
        Visitor(client).post("/auth/forgot-password", {"email": me.user["email"].upper()}).status_code == 200
    )
    work()
    assert mailbox[-1]["To"] == me.user["email"]
    token = mailbox.token()

    assert reset(client, token).status_code == 200
    assert me.get("/auth/me").status_code == 401
    assert sign_in(client, me.user["email"], ANOTHER).status_code == 200
    assert invalid_fields(reset(client, token, "yet another password")) == {"token"}


def test_a_reset_request_does_not_reveal_whether_an_account_exists(client, me):
    known = Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
    work()
    mailbox.clear()
    unknown = Visitor(client).post("/auth/forgot-password", {"email": makers.address()})
    work()
    assert known.content == unknown.content
    assert mailbox == []


def test_a_reset_link_expires_after_thirty_minutes(client):
    with freeze_time(NOON) as clock:
        me = registered(client)
        for _ in range(2):
            Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
            work()
        first, second = mailbox[-2:]
        clock.tick(1799)
        assert invalid_fields(reset(client, makers.token_of(first), "short")) == {"newPassword"}
        assert reset(client, makers.token_of(first)).status_code == 200
        # The other link is invalid from then on.
        assert invalid_fields(reset(client, makers.token_of(second))) == {"token"}
        Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
        work()
        clock.tick(1800)
        assert invalid_fields(reset(client, mailbox.token())) == {"token"}


def test_a_token_works_for_its_own_purpose_only(client, me):
    work()
    verification = mailbox.token()
    assert invalid_fields(reset(client, verification)) == {"token"}
    assert invalid_fields(reset(client, "made up")) == {"token"}


def test_only_the_digest_of_a_mailed_token_is_stored(client, me):
    Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
    work()
    token = mailbox.token()
    [kept] = one_time_tokens.OneTimeToken.select().where(
        one_time_tokens.OneTimeToken.purpose == "reset-password"
    )
    assert kept.token_hash == one_time_tokens.fingerprint(token)
    assert token not in str(kept.__data__)


# --- e-mail verification ------------------------------------------------------------------------------------------


def test_the_mailed_link_verifies_an_address(client, me):
    work()
    assert mailbox[-1]["Subject"] == "Confirm your e-mail address"
    token = mailbox.token()
    path = f"/auth/verify-email?token={token}"
    assert Visitor(client).send("HEAD", path).status_code == 200
    assert me.get("/auth/me").json["data"]["emailVerified"] is False
    assert Visitor(client).get(path).json["data"] == {"emailVerified": True}
    assert me.get("/auth/me").json["data"]["emailVerified"] is True
    # A mail scanner may have been first: the user sees no error.
    for again in (Visitor(client).get(path), Visitor(client).post("/auth/verify-email", {"token": token})):
        assert again.json["data"] == {"emailVerified": True}
    assert Visitor(client).send("HEAD", path).status_code == 200
    assert audit_rows("auth.email.verified") == 1
    assert invalid_fields(Visitor(client).get("/auth/verify-email?token=made-up")) == {"token"}
    assert Visitor(client).send("HEAD", "/auth/verify-email?token=made-up").status_code == 400
    assert invalid_fields(Visitor(client).get("/auth/verify-email")) == {"token"}


def test_a_used_link_works_while_its_address_is_the_verified_one(client, me):
    work()
    body = {"token": mailbox.token()}
    assert Visitor(client).post("/auth/verify-email", body).json["data"] == {"emailVerified": True}
    users.change(UUID(me.user["id"]), email=makers.address())
    assert invalid_fields(Visitor(client).post("/auth/verify-email", body)) == {"token"}
    users.change(UUID(me.user["id"]), email=me.user["email"], email_verified=False)
    assert invalid_fields(Visitor(client).post("/auth/verify-email", body)) == {"token"}


def test_a_used_link_works_weeks_later_and_is_deleted_once_there_is_another_address(client):
    with freeze_time(NOON) as clock:
        me = registered(client)
        work()
        body = {"token": mailbox.token()}
        assert Visitor(client).post("/auth/verify-email", body).status_code == 200
        clock.tick(timedelta(days=20))
        one_time_tokens.delete_expired(times.now())
        assert Visitor(client).post("/auth/verify-email", body).json["data"] == {"emailVerified": True}
        assert Visitor(client).send("HEAD", f"/auth/verify-email?token={body['token']}").status_code == 200
        admin = visitor(client, Role.ADMIN)
        changed = admin.send("PUT", f"/admin/users/{me.user['id']}", {"email": makers.address()})
        assert changed.status_code == 200
        assert invalid_fields(Visitor(client).post("/auth/verify-email", body)) == {"token"}
        one_time_tokens.delete_expired(times.now())
        assert one_time_tokens.find(body["token"], one_time_tokens.Purpose.VERIFY_EMAIL) is None


def test_opening_the_mailed_link_verifies_nothing(client, me):
    work()
    [link] = set(re.findall(r"http://127\.0\.0\.1:3000(/\S+)", makers.text_of(mailbox[-1])))
    for _ in range(2):
        page = client.simulate_get(link)
        assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert me.get("/auth/me").json["data"]["emailVerified"] is False


def test_the_verification_mail_is_sent_again_until_the_address_is_verified(client, me):
    work()
    mailbox.clear()
    assert me.post("/auth/verify-email/resend").status_code == 200
    work()
    assert Visitor(client).get(f"/auth/verify-email?token={mailbox.token()}").status_code == 200
    mailbox.clear()
    assert me.post("/auth/verify-email/resend").status_code == 200
    work()
    assert mailbox == []


# --- sessions -------------------------------------------------------------------------------------------


def test_users_list_and_end_their_own_sessions(client, me):
    agent = {"User-Agent": "a phone"}
    phone = sign_in(client, me.user["email"], headers=agent).json["data"]["accessToken"]
    registered(client)
    data = me.get("/auth/sessions").json["data"]
    assert data["items"][0]["userAgent"] == "a phone"
    assert [session["current"] for session in data["items"]] == [False, True]
    assert data["items"][0].keys() == {"id", "createdAt", "lastUsedAt", "ipAddress", "userAgent", "current"}
    assert data["pagination"] == {"limit": 20, "nextCursor": None}

    page = me.get("/auth/sessions?limit=1").json["data"]
    rest = me.get(f"/auth/sessions?cursor={page['pagination']['nextCursor']}").json["data"]
    assert page["items"] + rest["items"] == data["items"]

    assert me.send("DELETE", f"/auth/sessions/{data['items'][0]['id']}").status_code == 200
    assert Visitor(client, phone).get("/auth/me").status_code == 401
    assert error(me.send("DELETE", f"/auth/sessions/{data['items'][0]['id']}")) == (404, "NOT_FOUND")
    assert len(me.get("/auth/sessions").json["data"]["items"]) == 1


def test_another_users_session_is_not_found(client, me):
    stranger = registered(client)
    [session] = stranger.get("/auth/sessions").json["data"]["items"]
    assert error(me.send("DELETE", f"/auth/sessions/{session['id']}")) == (404, "NOT_FOUND")
    assert stranger.get("/auth/me").status_code == 200


def test_signing_out_with_a_refresh_token_ends_its_session_too(client, me):
    other = sign_in(client, me.user["email"]).json["data"]
    stranger = registered(client)
    assert me.post("/auth/logout", {"refreshToken": stranger.refresh_token}).status_code == 200
    assert stranger.get("/auth/me").status_code == 200
    again = Visitor(client, other["accessToken"])
    third = sign_in(client, me.user["email"]).json["data"]
    assert again.post("/auth/logout", {"refreshToken": third["refreshToken"]}).status_code == 200
    assert Visitor(client, third["accessToken"]).get("/auth/me").status_code == 401


def test_a_session_ends_thirty_days_after_its_sign_in(client, me):
    sessions.Session.update(created_at=times.now() - timedelta(days=29, hours=23)).execute()
    refreshed = Visitor(client).post("/auth/refresh", {"refreshToken": me.refresh_token}).json["data"]
    [successor] = sessions.RefreshToken.select().where(sessions.RefreshToken.spent_at.is_null())
    assert successor.expires_at < times.now() + timedelta(hours=2)
    assert me.get("/auth/me").status_code == 200

    sessions.Session.update(created_at=times.now() - timedelta(days=30)).execute()
    ended = me.get("/auth/me")
    assert (error(ended), ended.json["error"]["details"]) == (
        (401, "UNAUTHORIZED"),
        {"reason": "token_expired"},
    )
    again = Visitor(client).post("/auth/refresh", {"refreshToken": refreshed["refreshToken"]})
    assert (error(again), again.json["error"]["details"]) == (
        (401, "UNAUTHORIZED"),
        {"reason": "token_expired"},
    )
    now = sign_in(client, me.user["email"]).json["data"]["accessToken"]
    assert len(Visitor(client, now).get("/auth/sessions").json["data"]["items"]) == 1


def test_the_fifty_first_session_ends_the_oldest(client, me):
    first = sign_in(client, me.user["email"]).json["data"]["accessToken"]
    for _ in range(48):
        makers.session(me.user["id"])
    assert me.get("/auth/me").status_code == 200
    last = sign_in(client, me.user["email"]).json["data"]["accessToken"]
    assert me.get("/auth/me").status_code == 401
    assert Visitor(client, first).get("/auth/me").status_code == 200
    assert len(Visitor(client, last).get("/auth/sessions?limit=100").json["data"]["items"]) == 50


# --- sign-in failures ----------------------------------------------------------------------------


@pytest.fixture
def stopped_clock(me: Visitor) -> Iterator[None]:
    """The time stands still from now on: a wait of a second, or a minute, could end between any two requests."""
    with freeze_time(times.now()):
        yield


@pytest.mark.parametrize("known", [True, False])
def test_an_address_that_keeps_failing_answers_ever_more_slowly(client, known):
    with freeze_time(NOON) as clock:
        email = registered(client).user["email"] if known else makers.address()
        for _ in range(5):
            assert error(sign_in(client, email, "wrong")) == (401, "INVALID_CREDENTIALS")
        waits = []
        for _ in range(8):
            slowed = sign_in(client, email, "wrong")
            assert error(slowed) == (429, "RATE_LIMITED")
            waits.append(int(slowed.headers["Retry-After"]))
            clock.tick(waits[-1])
            assert error(sign_in(client, email, "wrong")) == (401, "INVALID_CREDENTIALS")
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_success_after_the_wait_clears_the_count(client):
    with freeze_time(NOON) as clock:
        me = registered(client)
        for _ in range(5):
            sign_in(client, me.user["email"], "wrong")
        # The right password waits too, and a refusal does not prolong the wait.
        for _ in range(3):
            assert error(sign_in(client, me.user["email"])) == (429, "RATE_LIMITED")
        clock.tick(1)
        assert sign_in(client, me.user["email"]).status_code == 200
        assert error(sign_in(client, me.user["email"], "wrong")) == (401, "INVALID_CREDENTIALS")


def from_address(address: str) -> dict[str, Any]:
    return {"extras": {"REMOTE_ADDR": address}}


def guess(client, email: str, times: int, *, network: str = "203.0.113") -> list[int]:
    return [
        sign_in(client, email, "wrong", **from_address(f"{network}.{number % 250}")).status_code
        for number in range(times)
    ]


def test_unknown_clients_share_one_count(client, me):
    with freeze_time(NOON):
        assert guess(client, me.user["email"], 8) == [401] * 5 + [429] * 3
        elsewhere = sign_in(client, me.user["email"], "wrong", **from_address("2001:db8::1"))
    assert error(elsewhere) == (429, "RATE_LIMITED")


@pytest.mark.parametrize("home", ["198.51.100.7", "2001:db8:1:2::7"])
def test_guesses_do_not_slow_down_an_owner_from_a_known_network(client, me, home):
    email = me.user["email"]
    assert sign_in(client, email, **from_address(home)).status_code == 200
    with freeze_time(NOON) as clock:
        for _ in range(20):
            guess(client, email, 2)
            assert sign_in(client, email, **from_address(home)).status_code == 200
            clock.tick(3)
    neighbour = {"198.51.100.7": "198.51.100.99", "2001:db8:1:2::7": "2001:db8:1:3::1"}[home]
    assert sign_in(client, email, **from_address(neighbour)).status_code == 200


def test_guesses_from_the_same_network_do_not_slow_down_the_owner(client, me):
    email = me.user["email"]
    assert sign_in(client, email, **from_address("198.51.100.7")).status_code == 200
    with freeze_time(NOON):
        assert guess(client, email, 7, network="198.51.100")[-1] == 429
        assert sign_in(client, email, **from_address("198.51.100.7")).status_code == 200


def test_an_earlier_refresh_token_gives_the_owner_a_count_of_their_own(client, me, stopped_clock):
    email = me.user["email"]
    stranger = registered(client)
    guess(client, email, 6)
    for token, status in (("made up", 429), (stranger.refresh_token, 429), (me.refresh_token, 200)):
        headers = {"Authorization": f"Bearer {token}"}
        far_away = from_address("192.0.2.200")
        if status == 429:
            assert error(sign_in(client, email, headers=headers, **far_away)) == (429, "RATE_LIMITED")
        else:
            # Spent, expired, its session ended: it still identifies the client.
            me.post("/auth/refresh", {"refreshToken": token})
            sessions.RefreshToken.update(expires_at=makers.MOMENT).execute()
            me.post("/auth/logout")
            assert sign_in(client, email, headers=headers, **far_away).status_code == status


def test_a_known_client_that_fails_is_slowed_down_too(client, me):
    with freeze_time(NOON):
        answers = [sign_in(client, me.user["email"], "wrong").status_code for _ in range(7)]
    assert answers == [401] * 5 + [429] * 2
    assert sign_in(client, me.user["email"], **from_address("192.0.2.9")).status_code == 200


def test_the_owners_sign_in_does_not_clear_the_count_of_unknown_clients(client, me):
    email = me.user["email"]
    with freeze_time(NOON):
        guess(client, email, 3)
        assert sign_in(client, email, **from_address("192.0.2.9")).status_code == 200
        assert guess(client, email, 3) == [401, 401, 429]
        assert sign_in(client, email, **from_address("192.0.2.9")).status_code == 200


def test_the_owners_sign_in_begins_no_wait_for_the_next_one(client, me):
    email = me.user["email"]
    with freeze_time(NOON):
        guess(client, email, 4)
        for place in ("192.0.2.9", "192.0.3.9"):
            assert sign_in(client, email, **from_address(place)).status_code == 200


def test_resetting_the_password_makes_the_client_known(client, me):
    email = me.user["email"]
    Visitor(client).post("/auth/forgot-password", {"email": email})
    work()
    away = from_address("192.0.2.9")
    body = {"token": mailbox.token(), "newPassword": ANOTHER}
    assert Visitor(client).post("/auth/reset-password", body, **away).status_code == 200
    guess(client, email, 6)
    assert sign_in(client, email, ANOTHER, **away).status_code == 200


def test_an_account_remembers_its_latest_addresses(client, me, monkeypatch):
    monkeypatch.setattr(sign_in_failures, "KNOWN_ADDRESSES_LIMIT", 3)
    for network in range(5):
        sign_in(client, me.user["email"], **from_address(f"198.51.{network}.1"))
    _, known = sign_in_failures.known_clients(me.user["id"], "")
    assert sorted(known) == ["198.51.2.1", "198.51.3.1", "198.51.4.1"]


def test_guesses_of_the_current_password_are_slowed_down(me, stopped_clock):
    for _ in range(5):
        assert error(change(me, current="wrong")) == (401, "INVALID_CREDENTIALS")
    assert error(change(me)) == (429, "RATE_LIMITED")


def test_failed_sign_ins_do_not_block_a_password_change(client, me, stopped_clock):
    for _ in range(6):
        sign_in(client, me.user["email"], "wrong")
        sign_in(client, me.user["id"], "wrong")
        sign_in(client, f"the current password of {me.user['id']}", "wrong")
    assert error(sign_in(client, me.user["email"])) == (429, "RATE_LIMITED")
    assert change(me).status_code == 200


def test_the_end_of_a_wait_allows_one_attempt(client, monkeypatch):
    with freeze_time(NOON) as clock:
        me = registered(client)
        for _ in range(5):
            sign_in(client, me.user["email"], "wrong")
        clock.tick(1)
        tried: list[int] = []
        match = Passwords.matches

        def guess_meanwhile(self: Passwords, password: str, hashed: str | None) -> bool:
            tried.append(sign_in(client, me.user["email"]).status_code if not tried else 0)
            return match(self, password, hashed)

        monkeypatch.setattr(Passwords, "matches", guess_meanwhile)
        sign_in(client, me.user["email"], "wrong")
        assert tried == [429]


@pytest.fixture
def long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check waits for its turn as long as the others take on a loaded machine."""
    monkeypatch.setattr(throttle, "_TURN_WAIT_S", 60)


def test_of_a_burst_of_guesses_at_most_ten_are_checked(stores, settings, long_turns):
    client = TestClient(create_app(settings))
    try:
        with postgres.connection():
            email = registered(client).user["email"]

        def guess_from(host: int) -> int:
            return sign_in(client, email, "wrong", **from_address(f"203.0.113.{host}")).status_code

        with ThreadPoolExecutor(16) as guessers:
            answers = list(guessers.map(guess_from, range(200)))
    finally:
        makers.wipe()
    assert set(answers) == {401, 429}
    assert 5 <= answers.count(401) <= 10


def test_parallel_sign_ins_with_the_right_password_all_succeed(stores, settings, long_turns):
    client = TestClient(create_app(settings))
    try:
        with postgres.connection():
            email = registered(client).user["email"]
        hosts = [from_address("203.0.113.1"), *[from_address(f"192.0.{n}.1") for n in range(15)]]
        with ThreadPoolExecutor(16) as users:
            answers = list(users.map(lambda host: sign_in(client, email, **host).status_code, hosts * 2))
    finally:
        makers.wipe()
    assert answers == [200] * 32


@pytest.fixture
def check_elsewhere(me, monkeypatch) -> Callable[[bool], AbstractContextManager[None]]:
    """Checks the password of an account as each of many processes would: no check takes turns with another."""
    guesser = (sign_in_failures.PasswordUse.SIGN_IN, me.user["id"], throttle.UNKNOWN_CLIENTS)

    @contextmanager
    def check(right: bool) -> Iterator[None]:
        monkeypatch.setattr(throttle, "_turns", {})
        with suppress(InvalidCredentials), throttle.password_check(*guesser) as reservation:
            yield
            if not right:
                raise InvalidCredentials
            reservation.succeeded()

    return check


def test_right_passwords_that_nine_processes_check_at_once_delay_no_other(check_elsewhere):
    for _ in range(3):
        with ExitStack() as in_progress:
            for _ in range(9):
                in_progress.enter_context(check_elsewhere(True))


def test_guesses_that_many_processes_check_at_once_are_ten(check_elsewhere):
    with ExitStack() as in_progress:
        for _ in range(10):
            in_progress.enter_context(check_elsewhere(False))
        with pytest.raises(TooManyFailures), check_elsewhere(True):
            pass
    with pytest.raises(TooManyFailures), check_elsewhere(True):
        pass


def test_a_wait_begins_with_the_fifth_failure_whatever_other_processes_check(check_elsewhere):
    with freeze_time(NOON) as clock:
        with check_elsewhere(True):
            for _ in range(4):
                with check_elsewhere(False):
                    pass
        with check_elsewhere(False):
            clock.tick(30)
        # The fifth has failed now: its wait has just begun, however long ago its check did.
        with pytest.raises(TooManyFailures) as refused, check_elsewhere(True):
            pass
        assert refused.value.retry_after == 1
        clock.tick(1)
        # After a wait, one check at a time: it begins the next wait.
        with check_elsewhere(False), pytest.raises(TooManyFailures), check_elsewhere(True):
            pass


def test_a_check_does_not_wait_long_for_its_turn(client, me, monkeypatch):
    monkeypatch.setattr(throttle, "_TURN_WAIT_S", 0.01)
    guesser = (sign_in_failures.PasswordUse.SIGN_IN, me.user["id"], throttle.UNKNOWN_CLIENTS)
    with throttle.password_check(*guesser), pytest.raises(Busy), throttle.password_check(*guesser):
        pass


def must_wait(guesser, now) -> bool:
    failure = sign_in_failures.find(*guesser)
    assert failure
    return failure.must_wait(now)


def test_a_check_that_began_earlier_is_not_refused_because_of_a_later_one(client):
    now = times.now()
    guesser = (sign_in_failures.PasswordUse.SIGN_IN, "account", "unknown")
    assert sign_in_failures.reserve(*guesser, now)
    assert sign_in_failures.reserve(*guesser, now - timedelta(seconds=1)) == now
    assert not must_wait(guesser, now - timedelta(seconds=1))
    for _ in range(3):
        sign_in_failures.reserve(*guesser, now)
    sign_in_failures.begin_wait(*guesser, now)
    assert must_wait(guesser, now)
    assert sign_in_failures.reserve(*guesser, now) is None


def cannot_hash(self: Passwords, password: str, hashed: str | None) -> bool:
    raise CannotHash


# What checks the password of an account.
ASK = [lambda me: sign_in(me.client, me.user["email"]), change]


@pytest.mark.parametrize("ask", ASK)
def test_a_password_that_was_not_checked_is_no_failure(me, ask, monkeypatch):
    with freeze_time(NOON):
        for _ in range(4):
            for refused in (change(me, "wrong"), sign_in(me.client, me.user["email"], "wrong")):
                assert error(refused) == (401, "INVALID_CREDENTIALS")
        with monkeypatch.context() as patched:
            patched.setattr(Passwords, "matches", cannot_hash)
            for _ in range(9):
                refused = ask(me)
                assert error(refused) == (503, "SERVICE_UNAVAILABLE")
                # Nothing is wrong with what the client does: the service is overloaded.
                assert refused.json["error"]["message"].startswith("The service cannot process passwords")
                assert int(refused.headers["Retry-After"]) > 0
        assert ask(me).status_code == 200


def test_a_weak_new_password_is_no_failure(me):
    with freeze_time(NOON):
        for _ in range(9):
            assert invalid_fields(change(me, new="password")) == {"newPassword"}
        assert change(me).status_code == 200


def test_a_check_that_did_not_happen_leaves_the_wait_of_a_later_failure(client):
    now = times.now()
    guesser = (sign_in_failures.PasswordUse.SIGN_IN, "account", "unknown")
    for _ in range(5):
        sign_in_failures.reserve(*guesser, now)
    sign_in_failures.begin_wait(*guesser, now)
    later = now + timedelta(seconds=1)
    assert sign_in_failures.reserve(*guesser, later) == later
    sign_in_failures.undo(*guesser, now)
    assert must_wait(guesser, later + timedelta(seconds=1.9))
    sign_in_failures.undo(*guesser, later)
    assert not must_wait(guesser, later)


@pytest.fixture
def meanwhile(monkeypatch) -> Callable[[Callable[[], object]], None]:
    """Lets something happen once while the next password is checked: bcrypt takes about 50 ms."""

    def happens(happen: Callable[[], object]) -> None:
        match, left = Passwords.matches, [happen]

        def matches(self: Passwords, password: str, hashed: str | None) -> bool:
            same = match(self, password, hashed)
            if left:
                left.pop()()
            return same

        monkeypatch.setattr(Passwords, "matches", matches)

    return happens


@pytest.mark.parametrize("ask", ASK)
def test_a_hash_that_another_sign_in_renews_meanwhile_refuses_no_right_password(me, ask, settings, meanwhile):
    dearer = Passwords(pepper=settings.password_pepper, rounds=5).hash(PASSWORD)
    users.change(UUID(me.user["id"]), password_hash=dearer)
    meanwhile(lambda: sign_in(me.client, me.user["email"], **from_address("192.0.2.9")))
    assert ask(me).status_code == 200


@pytest.mark.parametrize("ask", ASK)
def test_an_account_that_is_closed_meanwhile_is_refused_like_a_wrong_password(me, ask, meanwhile):
    meanwhile(lambda: users.close(UUID(me.user["id"]), email=makers.address(), name="Closed"))
    assert error(ask(me)) == (401, "INVALID_CREDENTIALS")


@pytest.mark.parametrize("ask", ASK)
def test_an_account_that_is_suspended_meanwhile_is_refused_like_a_wrong_password(me, ask, meanwhile):
    meanwhile(lambda: users.change(UUID(me.user["id"]), active=False))
    assert error(ask(me)) == (401, "INVALID_CREDENTIALS")


def test_a_password_that_is_changed_meanwhile_is_not_changed_again(me, meanwhile, settings):
    passwords = Passwords(pepper=settings.password_pepper, rounds=4)
    meanwhile(lambda: users.change(UUID(me.user["id"]), password_hash=passwords.hash("a password of today")))
    assert error(change(me)) == (401, "INVALID_CREDENTIALS")
    assert sign_in(me.client, me.user["email"], "a password of today").status_code == 200


def test_all_spellings_of_an_address_share_one_count(client, me, stopped_clock):
    for spelling in (str.lower, str.upper, str.title, str.swapcase, str.capitalize):
        sign_in(client, spelling(me.user["email"]), "wrong")
    assert error(sign_in(client, me.user["email"])) == (429, "RATE_LIMITED")


def test_changing_the_password_invalidates_reset_links(client, me):
    Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
    work()
    token = mailbox.token()
    assert change(me).status_code == 200
    assert invalid_fields(reset(client, token)) == {"token"}


def test_reset_mails_are_spread_over_the_hour_and_one_link_always_works(client):
    with freeze_time(NOON) as clock:
        me = registered(client)
        begun = times.now()
        reset_links = one_time_tokens.OneTimeToken.select().where(
            one_time_tokens.OneTimeToken.purpose == "reset-password"
        )
        for _ in range(80):
            # Someone requests a mail every minute.
            assert (
                Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]}).status_code == 200
            )
            work()
            # A link that works has been mailed at all times.
            assert any(link.due_at <= times.now() < link.expires_at for link in reset_links.clone())
            clock.tick(60)
        due = sorted((link.due_at - begun) // timedelta(minutes=1) for link in reset_links)
        assert due[:4] == [0, 1, 16, 31]
        assert all(sum(start <= minute < start + 60 for minute in due) <= 5 for start in range(80))
        assert [message["Subject"] for message in mailbox].count("Choose a new password") == len(due)
        assert reset(client, mailbox.token()).status_code == 200


def test_a_link_is_mailed_at_once_where_a_reset_has_used_those_before(client):
    with freeze_time(NOON) as clock:
        me = registered(client)
        begun = times.now()

        def request() -> int:
            """Requests a mail; returns in which minute the newest one is due."""
            Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
            work()
            last = one_time_tokens.OneTimeToken.select().order_by(
                one_time_tokens.OneTimeToken.created_at.desc()
            )
            return (last.get().due_at - begun) // timedelta(minutes=1)

        assert [request() for _ in range(3)] == [0, 0, 15]
        # The second mail: the third one, which waits, is withdrawn.
        assert reset(client, makers.token_of(mailbox[-2])).status_code == 200
        for minute in (1, 2, 3):
            clock.tick(60)
            assert request() == minute
            assert reset(client, mailbox.token(), f"{ANOTHER} {minute}").status_code == 200
        # The sixth within an hour waits for its end.
        assert request() == 60


def test_a_new_address_gets_its_link_at_once_although_mails_wait_for_the_old_one(client, me):
    for _ in range(4):
        me.post("/auth/verify-email/resend")
        work()
    there = makers.address()
    admin = visitor(client, Role.ADMIN)
    assert admin.send("PUT", f"/admin/users/{me.user['id']}", {"email": there}).status_code == 200
    work()
    [message] = [message for message in mailbox if message["To"] == there]
    body = {"token": makers.token_of(message)}
    assert Visitor(client).post("/auth/verify-email", body).status_code == 200


def test_a_mail_counts_for_an_hour_although_its_link_has_expired(client):
    with freeze_time(NOON) as clock:
        me = registered(client)
        reset_links = one_time_tokens.OneTimeToken.select().where(
            one_time_tokens.OneTimeToken.purpose == "reset-password"
        )
        Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
        work()
        for minutes, left in ((59, 1), (2, 0)):
            clock.tick(minutes * 60)
            one_time_tokens.delete_expired(times.now())
            assert reset_links.count() == left


def test_old_failures_and_addresses_are_deleted(client, me):
    guess(client, me.user["email"], 1)
    with transaction():
        enqueue(housekeeping.expire_sign_in_failures.job())
    work()
    assert postgres.value("SELECT count(*) FROM auth.sign_in_failures") == 1
    assert len(sign_in_failures.known_clients(me.user["id"], "")[1]) == 1
    postgres.rows("UPDATE auth.sign_in_failures SET failed_at = %s", times.now() - timedelta(hours=2))
    postgres.rows("UPDATE auth.known_addresses SET seen_at = %s", times.now() - timedelta(days=90))
    with transaction():
        enqueue(housekeeping.expire_sign_in_failures.job())
        enqueue(housekeeping.sum_up_refusals.job())
    work()
    assert postgres.value("SELECT count(*) FROM auth.sign_in_failures") == 0
    assert sign_in_failures.known_clients(me.user["id"], "") == (None, [])


def test_a_mail_whose_link_is_used_up_is_not_sent(client, me):
    work()
    mailbox.clear()
    for _ in range(2):
        Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
    work()
    Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
    mail.request_password_reset.perform(
        next(iter(JobRow.select().where(JobRow.name == mail.request_password_reset.name))).id
    )
    assert reset(client, mailbox.token()).status_code == 200
    work()
    subjects = [message["Subject"] for message in mailbox]
    assert (subjects.count("Choose a new password"), subjects.count("Your password was changed")) == (2, 1)


def test_the_message_id_does_not_contain_the_token_id(client, me):
    Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
    work()
    [kept] = one_time_tokens.OneTimeToken.select().where(
        one_time_tokens.OneTimeToken.purpose == "reset-password"
    )
    assert str(kept.id) not in mailbox[-1]["Message-ID"]


# --- audit -------------------------------------------------------------------------------


def audit_rows(action: str) -> int:
    work()
    return audit_log.AuditLog.select().where(audit_log.AuditLog.action == action).count()


def test_refused_sign_ins_are_audited_twice_a_minute_at_most(client, me):
    # Frozen: on a slow machine a second passes meanwhile, after which another guess is checked.
    with freeze_time(NOON):
        guess(client, me.user["email"], 30)
    assert audit_rows("auth.user.sign_in_failed") == 5
    assert audit_rows("auth.user.sign_in_refused") == 1
    assert sum_up_refusals() == 1
    work()
    rows = audit_log.AuditLog.select().where(audit_log.AuditLog.action == "auth.user.sign_in_refused")
    first, rest = rows.order_by(audit_log.AuditLog.created_at)
    assert str(first.resource_id) == str(rest.resource_id) == me.user["id"]
    assert (first.ip_address, rest.details["times"]) == ("203.0.113.5", 24)
    assert sum_up_refusals() == 0


def test_failures_at_unknown_addresses_are_audited_by_digest(client):
    email = makers.address()
    for address in (email, email.upper(), makers.address()):
        sign_in(client, address, "wrong")
    work()
    rows = audit_log.AuditLog.select().where(audit_log.AuditLog.action == "auth.user.sign_in_failed")
    digests = [row.details["addressDigest"] for row in rows.order_by(audit_log.AuditLog.created_at)]
    assert digests[0] == digests[1] != digests[2]
    assert email not in str([row.details for row in rows])


def test_repeated_mail_requests_are_audited_once_a_minute(client, me, stopped_clock):
    for _ in range(10):
        Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
        me.post("/auth/verify-email/resend")
    assert audit_rows("auth.password.reset_requested") == audit_rows("auth.email.verification_requested") == 1
    assert sum_up_refusals() == 2
    assert audit_rows("auth.password.reset_requested") == audit_rows("auth.email.verification_requested") == 2


def sum_up_refusals() -> int:
    """Sums up the refusals of all minutes, the current one included."""
    with transaction():
        return audit.record_sums(times.now() + timedelta(minutes=1), 100)


def test_a_route_without_a_body_refuses_one(me):
    assert me.post("/auth/verify-email/resend", {}).status_code == 200
    assert error(me.post("/auth/verify-email/resend", {"x": 1})) == (400, "VALIDATION_ERROR")
    headers = {"Content-Type": "application/json"}
    assert error(me.post("/auth/verify-email/resend", body=b"{", headers=headers)) == (400, "MALFORMED_JSON")


def test_a_reset_clears_the_count(client, me):
    for _ in range(5):
        sign_in(client, me.user["email"], "wrong")
    Visitor(client).post("/auth/forgot-password", {"email": me.user["email"]})
    work()
    assert reset(client, mailbox.token()).status_code == 200
    assert sign_in(client, me.user["email"], ANOTHER).status_code == 200


def test_a_verification_link_expires_after_a_day(client):
    with freeze_time(NOON) as clock:
        for age, answer in ((86_399, 200), (86_400, 400)):
            registered(client)
            work()
            path = f"/auth/verify-email?token={mailbox.token()}"
            clock.tick(age)
            assert Visitor(client).get(path).status_code == answer


def test_a_session_that_was_not_used_for_seven_days_is_not_listed(client):
    with freeze_time(NOON) as clock:
        me = registered(client)
        sessions.Session.update(last_used_at=makers.MOMENT).execute()
        clock.tick(7 * 86_400)
        now = sign_in(client, me.user["email"]).json["data"]["accessToken"]
        # The clock of the database is not frozen, so its columns would be of another year.
        assert len(Visitor(client, now).get("/auth/sessions").json["data"]["items"]) == 1
