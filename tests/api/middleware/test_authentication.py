"""Who is calling is asked once a second, and at once after a change."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from actors.jobs import transaction
from api.auth.sign_in import MAX_SESSIONS_PER_ACCOUNT, REUSE_GRACE
from db import live_sessions, postgres, sessions, users
from db.sessions import RefreshToken
from db.users import Role
from tests import makers
from tests.counting import counted
from tests.makers import PASSWORD, Visitor, error, signed_in, visitor

NEW_PASSWORD = "seven lamps on a bridge"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, which stands still: nothing that is remembered becomes too old on a slow machine."""
    live_sessions._remembered.clear()
    now = [1000.0]
    monkeypatch.setattr(live_sessions, "monotonic", lambda: now[0])
    return now


def known(visitor: Visitor) -> Visitor:
    """The visitor, after a request by which the process remembers them."""
    assert visitor.get("/payments").status_code == 200
    return visitor


def is_refused(visitor: Visitor) -> bool:
    result = visitor.get("/payments")
    return result.status_code == 401 and result.json["error"]["details"]["reason"] == "token_revoked"


def user_of(visitor: Visitor) -> users.User:
    return users.User.get_by_id(visitor.user["id"])


def session_id(visitor: Visitor) -> UUID:
    [current] = [row for row in visitor.get("/auth/sessions").json["data"]["items"] if row["current"]]
    return UUID(current["id"])


def asks_who_calls(visitor: Visitor) -> bool:
    with counted() as asked:
        assert visitor.get("/payments").status_code == 200
    return live_sessions.FIND_LIVE_SESSION.execute in asked.statements


def test_the_caller_is_asked_for_once_a_second(customer, clock):
    assert [asks_who_calls(customer) for _ in range(3)] == [True, False, False]
    clock[0] += live_sessions.REMEMBERED_S
    assert [asks_who_calls(customer) for _ in range(2)] == [True, False]
    assert live_sessions.REMEMBERED_S <= 1


def test_the_signed_in_user_is_always_read_by_one_statement(customer):
    known(customer)
    users.User.update(name="Other Name").where(users.User.id == customer.user["id"]).execute()
    with counted() as asked:
        assert customer.get("/auth/me").json["data"]["name"] == "Other Name"
    assert len(asked.statements) == 1


def test_a_refused_token_is_asked_for_again(customer):
    sessions.Session.update(ended_at=makers.MOMENT).execute()
    assert is_refused(customer)
    sessions.Session.update(ended_at=None).execute()
    assert customer.get("/payments").status_code == 200


def test_a_session_is_not_remembered_past_its_own_end(customer, monkeypatch):
    known(customer)
    began = timedelta(days=30, seconds=1)
    remembered = live_sessions._remembered
    [(id, entry)] = list(remembered.items())
    session = live_sessions.LiveSession(
        entry.session.began_at - began,
        *(getattr(entry.session, name) for name in live_sessions.LiveSession.__slots__[1:]),
    )
    remembered[id] = live_sessions._Remembered(session, entry.stamp, entry.until)
    assert error(customer.get("/payments")) == (401, "UNAUTHORIZED")


def logout(me: Visitor, other: Visitor, _admin: Visitor) -> None:
    other.post("/auth/logout", {})


def logout_everywhere(me: Visitor, other: Visitor, _admin: Visitor) -> None:
    me.post("/auth/logout", {"everywhere": True})


def logout_of_a_refresh_token(me: Visitor, other: Visitor, _admin: Visitor) -> None:
    me.post("/auth/logout", {"refreshToken": other.refresh_token})


def end_one_session(me: Visitor, other: Visitor, _admin: Visitor) -> None:
    me.send("DELETE", f"/auth/sessions/{session_id(other)}")


def change_the_password(me: Visitor, other: Visitor, _admin: Visitor) -> None:
    me.send("PUT", "/auth/password", {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD})


def reset_the_password(me: Visitor, other: Visitor, _admin: Visitor) -> None:
    me.post("/auth/forgot-password", {"email": me.user["email"]})
    makers.work()
    me.post("/auth/reset-password", {"token": makers.mailbox.token(), "newPassword": NEW_PASSWORD})


def sign_in_too_often(me: Visitor, other: Visitor, _admin: Visitor) -> None:
    for _ in range(MAX_SESSIONS_PER_ACCOUNT):
        me.post("/auth/login", {"email": me.user["email"], "password": PASSWORD})


def reuse_a_refresh_token(me: Visitor, other: Visitor, _admin: Visitor) -> None:
    other.post("/auth/refresh", {"refreshToken": other.refresh_token})
    spent = RefreshToken.spent_at - REUSE_GRACE * 2
    RefreshToken.update(spent_at=spent).where(RefreshToken.spent_at.is_null(False)).execute()
    assert error(other.post("/auth/refresh", {"refreshToken": other.refresh_token})) == (401, "TOKEN_REUSED")


def suspend(me: Visitor, other: Visitor, admin: Visitor) -> None:
    admin.send("PUT", f"/admin/users/{me.user['id']}", {"active": False})


def close_the_account(me: Visitor, other: Visitor, admin: Visitor) -> None:
    admin.send("DELETE", f"/admin/users/{me.user['id']}")


def end_all_sessions_of_a_user(me: Visitor, other: Visitor, admin: Visitor) -> None:
    admin.send("DELETE", f"/admin/users/{me.user['id']}/sessions")


def end_one_session_of_a_user(me: Visitor, other: Visitor, admin: Visitor) -> None:
    admin.send("DELETE", f"/admin/users/{me.user['id']}/sessions/{session_id(other)}")


@pytest.mark.parametrize(
    "change",
    [
        logout,
        logout_everywhere,
        logout_of_a_refresh_token,
        end_one_session,
        change_the_password,
        reset_the_password,
        sign_in_too_often,
        reuse_a_refresh_token,
        suspend,
        close_the_account,
        end_all_sessions_of_a_user,
        end_one_session_of_a_user,
    ],
)
def test_the_next_request_of_a_session_that_has_ended_is_refused(client, admin, change):
    me = visitor(client)
    other = signed_in(client, user_of(me))
    known(me)
    known(other)
    change(me, other, admin)
    assert is_refused(other)


def test_a_new_role_holds_at_the_next_request(client, admin):
    me = known(visitor(client))
    assert error(me.get("/admin/users")) == (403, "FORBIDDEN")
    admin.send("PUT", f"/admin/users/{me.user['id']}/role", {"role": "ADMIN"})
    assert me.get("/admin/users").status_code == 200
    admin.send("PUT", f"/admin/users/{me.user['id']}/role", {"role": "CUSTOMER"})
    assert error(me.get("/admin/users")) == (403, "FORBIDDEN")


def test_a_change_of_one_user_makes_nobody_else_be_asked_for(client, admin):
    me, other = known(visitor(client)), known(visitor(client))
    while (
        UUID(me.user["id"]).int % live_sessions._GROUPS == UUID(other.user["id"]).int % live_sessions._GROUPS
    ):
        other = known(visitor(client))
    me.post("/auth/logout", {})
    assert not asks_who_calls(other)


def test_a_lookup_that_began_before_a_change_is_not_remembered(client, monkeypatch):
    me = visitor(client)
    user, read = UUID(me.user["id"]), live_sessions.read

    def outrun(id: UUID) -> live_sessions.LiveSession | None:
        found = read(id)
        sessions.end(user)
        return found

    monkeypatch.setattr(live_sessions, "read", outrun)
    assert me.get("/payments").status_code == 200
    monkeypatch.setattr(live_sessions, "read", read)
    assert is_refused(me)


def test_a_bounded_number_of_sessions_is_remembered(client, monkeypatch):
    monkeypatch.setattr(live_sessions, "MAX_REMEMBERED", 2)
    visitors = [known(visitor(client)) for _ in range(4)]
    assert len(live_sessions._remembered) == 2
    assert [asks_who_calls(each) for each in reversed(visitors)] == [False, False, True, True]


@pytest.fixture
def committed(stores: dict[str, str]) -> Iterator[tuple[UUID, UUID]]:
    """A user and a session that all threads see."""
    with postgres.connection(), transaction():
        user = makers.user(Role.CUSTOMER)
        session_id, _ = makers.session(user.id)
    yield user.id, session_id
    makers.wipe()


def elsewhere(work: Callable[[], object]) -> object:
    """Does the work in another thread, on another connection."""

    def connected() -> object:
        with postgres.connection():
            return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(connected).result()


def test_what_another_thread_read_before_the_commit_is_forgotten_after_it(committed):
    user_id, session = committed
    with postgres.connection():
        with transaction():
            sessions.end(user_id)
            assert elsewhere(lambda: live_sessions.find(session, user_id))
        assert live_sessions.find(session, user_id) is None


def test_a_change_that_is_rolled_back_leaves_the_session(committed):
    user_id, session = committed
    with postgres.connection():
        with pytest.raises(ZeroDivisionError), transaction():
            sessions.end(user_id)
            1 / 0  # noqa: B018
        assert live_sessions.find(session, user_id)


def test_processes_of_one_machine_forget_together(committed):
    user_id, session = committed
    with postgres.connection():
        assert live_sessions.find(session, user_id)
        before = live_sessions._stamp(user_id)
        other = multiprocessing.get_context("fork").Process(
            target=live_sessions._renew_stamp, args=(user_id,)
        )
        other.start()
        other.join()
        assert live_sessions._stamp(user_id) != before
        sessions.Session.update(ended_at=makers.MOMENT).where(sessions.Session.id == session).execute()
        assert live_sessions.find(session, user_id) is None


def test_an_unknown_session_is_nobodys(database):
    assert live_sessions.find(uuid4(), uuid4()) is None
