"""Accounts in an administrator's hands."""

from uuid import uuid4

import pytest

from db import audit_log, event_log, payments, sessions
from db.users import Role
from tests import makers
from tests.makers import PASSWORD, Visitor, error, registered, work


@pytest.fixture
def boss(client) -> Visitor:
    who = registered(client, Role.ADMIN)
    work()
    makers.mailbox.clear()
    return who


def new(**more):
    return {"email": makers.address(), "name": "New One", "password": PASSWORD, "role": "CUSTOMER", **more}


def sign_in(client, email, password=PASSWORD):
    return client.simulate_post("/api/auth/login", json={"email": email, "password": password})


def test_an_administrator_opens_an_account_of_any_role(client, boss):
    for role in Role:
        wish = new(role=role, emailVerified=True)
        result = boss.post("/admin/users", wish)
        assert result.status_code == 201
        made = result.json["data"]
        assert made == {
            "id": made["id"],
            "email": wish["email"],
            "name": "New One",
            "role": role,
            "emailVerified": True,
            "active": True,
            "createdAt": made["createdAt"],
            "updatedAt": made["updatedAt"],
        }
        assert sign_in(client, wish["email"]).status_code == 200
        assert boss.get(f"/admin/users/{made['id']}").json["data"] == made
    work()
    assert makers.mailbox == []
    told = [event.type for event in event_log.after(0, 1000)]
    assert told.count("admin:user:created") == 3


def test_who_is_given_no_role_is_a_customer(boss):
    wish = new()
    del wish["role"]
    assert boss.post("/admin/users", wish).json["data"]["role"] == "CUSTOMER"


def test_who_is_not_verified_is_asked_to(boss):
    wish = new()
    boss.post("/admin/users", wish)
    work()
    assert [letter["To"] for letter in makers.mailbox] == [wish["email"]]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"role": "BOSS"}, "role"),
        ({"password": "12345678"}, "password"),
        ({"email": "x"}, "email"),
        ({"active": True}, "active"),
    ],
)
def test_what_is_no_account_is_refused(boss, more, field):
    result = boss.post("/admin/users", new(**more))
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == [field]


def test_an_address_belongs_to_one_person(boss):
    wish = new()
    assert boss.post("/admin/users", wish).status_code == 201
    assert error(boss.post("/admin/users", new(email=wish["email"].upper()))) == (409, "EMAIL_TAKEN")
    other = boss.post("/admin/users", new()).json["data"]["id"]
    assert error(boss.send("PUT", f"/admin/users/{other}", {"email": wish["email"]})) == (409, "EMAIL_TAKEN")
    assert boss.get(f"/admin/users/{other}").json["data"]["email"] != wish["email"]


def test_people_are_listed_newest_first_by_role_words_and_whether_they_are_open(boss):
    ann = boss.post("/admin/users", new(name="Ann 100% O_ne", role="VENDOR")).json["data"]
    bob = boss.post("/admin/users", new(name="Bob", email="bob.one@shop.example")).json["data"]
    boss.send("DELETE", f"/admin/users/{bob['id']}")

    def found(query: str) -> list[str]:
        return [it["id"] for it in boss.get(f"/admin/users?{query}").json["data"]["items"]]

    assert found("limit=2")[0] == bob["id"]
    assert found("role=VENDOR") == [ann["id"]]
    assert found("q=ann 100%25 o_") == [ann["id"]]
    assert found("q=%25") == [ann["id"]]
    assert found("active=false") == [bob["id"]]
    assert bob["id"] not in found("active=true")
    assert found("q=bob.one") == []
    for query in ("role=BOSS", "q=%00", "q=a%00b", "active=perhaps"):
        assert error(boss.get(f"/admin/users?{query}")) == (400, "VALIDATION_ERROR"), query
    page = boss.get("/admin/users?limit=1").json["data"]
    rest = boss.get(f"/admin/users?limit=100&cursor={page['pagination']['nextCursor']}").json["data"]
    assert page["items"][0]["id"] not in {it["id"] for it in rest["items"]}


def test_another_address_has_to_be_verified_again_and_takes_the_old_links_with_it(client, boss):
    who = registered(client)
    work()
    old = makers.mailbox[-1]
    address = makers.address()
    changed = boss.send(
        "PUT", f"/admin/users/{who.user['id']}", {"email": address, "name": "Smith & <b>Sons</b>"}
    )
    assert (changed.json["data"]["email"], changed.json["data"]["emailVerified"]) == (address, False)
    assert changed.json["data"]["name"] == "Smith & Sons"
    work()
    assert makers.mailbox[-1]["To"] == address
    assert client.simulate_get(f"/api/auth/verify-email?token={makers.token_of(old)}").status_code == 400
    assert client.simulate_get(f"/api/auth/verify-email?token={makers.mailbox.token()}").status_code == 200
    assert who.get("/auth/me").json["data"]["email"] == address


@pytest.mark.parametrize(
    "wish",
    [{}, {"role": "ADMIN"}, {"active": "no"}, {"active": None}, {"name": None}, {"emailVerified": "yes"}],
)
def test_what_cannot_be_changed_so_is_refused(client, boss, wish):
    who = registered(client)
    assert error(boss.send("PUT", f"/admin/users/{who.user['id']}", wish)) == (400, "VALIDATION_ERROR")


def test_another_role_counts_at_the_next_request(client, boss):
    who = registered(client)
    assert error(who.get("/admin/users")) == (403, "FORBIDDEN")
    assert boss.send("PUT", f"/admin/users/{who.user['id']}/role", {"role": "ADMIN"}).status_code == 200
    assert who.get("/admin/users").status_code == 200
    boss.send("PUT", f"/admin/users/{who.user['id']}/role", {"role": "VENDOR"})
    assert error(who.get("/admin/users")) == (403, "FORBIDDEN")
    work()
    [changed, *_] = [
        row for row in audit_log.of_resource(who.user["id"]) if row.action == "admin.user.role_changed"
    ]
    assert (changed.details, str(changed.user_id)) == ({"from": "CUSTOMER", "to": "ADMIN"}, boss.user["id"])


def test_the_last_administrator_is_neither_closed_nor_deposed(client, boss):
    me = boss.user["id"]
    assert error(boss.send("DELETE", f"/admin/users/{me}")) == (409, "LAST_ADMIN")
    assert error(boss.send("PUT", f"/admin/users/{me}/role", {"role": "VENDOR"})) == (409, "LAST_ADMIN")
    assert boss.send("PUT", f"/admin/users/{me}/role", {"role": "ADMIN"}).status_code == 200
    other = registered(client, Role.ADMIN)
    assert other.send("DELETE", f"/admin/users/{me}").status_code == 200
    assert error(other.send("DELETE", f"/admin/users/{other.user['id']}")) == (409, "LAST_ADMIN")


def test_a_closed_account_is_nobodys_any_more(client, boss):
    customer, vendor = registered(client), registered(client, Role.VENDOR)
    email, id = customer.user["email"], customer.user["id"]
    vendor.post("/payments", {"type": "initiate", "amount": 5, "customerEmail": email.upper()})
    paid = customer.post("/payments", {"type": "payment", "amount": 7}).json["data"]["id"]
    work()
    # Still on its way into the log when the account is closed.
    vendor.post("/payments", {"type": "initiate", "amount": 6, "customerEmail": email})

    closed = boss.send("DELETE", f"/admin/users/{id}")

    assert closed.status_code == 200
    data = closed.json["data"]
    assert (data["active"], data["name"], data["email"]) == (
        False,
        "Closed account",
        f"closed-{id}@closed.invalid",
    )
    assert error(customer.get("/auth/me")) == (401, "UNAUTHORIZED")
    refreshed = client.simulate_post("/api/auth/refresh", json={"refreshToken": customer.refresh_token})
    assert refreshed.status_code == 401
    assert error(sign_in(client, email)) == (401, "INVALID_CREDENTIALS")
    work()
    log = [event.data for event in event_log.after(0, 1000)]
    assert not [it for it in log if email.lower() in str(it).lower()]
    assert not [it for it in log if it.get("id") == id and it.get("name") != "Closed account"]
    assert boss.get(f"/payments/{paid}").json["data"]["status"] == "completed"
    assert audit_log.of_resource(paid)
    assert payments.Payment.select().where(payments.Payment.customer_email == email).count() == 0
    again = client.simulate_post(
        "/api/auth/register", json={"email": email, "password": PASSWORD, "name": "Again"}
    )
    assert again.status_code == 201
    assert error(boss.send("DELETE", f"/admin/users/{id}")) == (404, "NOT_FOUND")
    assert error(boss.send("PUT", f"/admin/users/{id}", {"name": "x"})) == (404, "NOT_FOUND")
    assert boss.get(f"/admin/users/{id}").json["data"]["active"] is False
    assert sessions.Session.select().where(sessions.Session.user_id == id).count() == 0


def test_who_is_not_there_is_a_404(boss):
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "", {"name": "x"}),
        ("DELETE", "", None),
        ("PUT", "/role", {"role": "ADMIN"}),
    ):
        assert error(boss.send(method, f"/admin/users/{uuid4()}{path}", body)) == (404, "NOT_FOUND")


# --- suspended ------------------------------------------------------------------------------------------


def test_a_suspended_account_is_out_at_once_and_comes_back_by_signing_in(client, boss):
    who = registered(client)
    path = f"/admin/users/{who.user['id']}"
    suspended = boss.send("PUT", path, {"active": False})
    assert (suspended.status_code, suspended.json["data"]["active"]) == (200, False)
    assert error(who.get("/auth/me")) == (401, "UNAUTHORIZED")
    assert error(who.post("/auth/refresh", {"refreshToken": who.refresh_token})) == (401, "UNAUTHORIZED")
    assert error(sign_in(client, who.user["email"])) == (401, "INVALID_CREDENTIALS")
    assert who.user["id"] in [it["id"] for it in boss.get("/admin/users?active=false").json["data"]["items"]]

    assert boss.send("PUT", path, {"active": True}).json["data"]["active"] is True
    assert error(who.get("/auth/me")) == (401, "UNAUTHORIZED")
    assert sign_in(client, who.user["email"]).status_code == 200
    work()
    told = [event.data["active"] for event in event_log.after(0, 1000) if event.type == "admin:user:updated"]
    assert told == [False, True]
    rows = boss.get(f"/admin/audit-logs?action=admin.user.updated&resourceId={who.user['id']}").json["data"]
    assert [row["details"] for row in rows["items"]] == [{"fields": ["active"]}] * 2


def test_a_suspended_vendors_open_requests_are_cancelled(client, boss):
    vendor = registered(client, Role.VENDOR)
    wish = {"type": "initiate", "amount": "5.00"}
    request = vendor.post("/payments", wish).json["data"]["id"]
    work()
    boss.send("PUT", f"/admin/users/{vendor.user['id']}", {"active": False})
    work()
    assert boss.get(f"/payments/{request}").json["data"]["status"] == "cancelled"


def test_the_last_administrator_cannot_be_suspended(client, boss):
    path = f"/admin/users/{boss.user['id']}"
    assert error(boss.send("PUT", path, {"active": False})) == (409, "LAST_ADMIN")
    registered(client, Role.ADMIN)
    assert boss.send("PUT", path, {"active": False}).status_code == 200


def test_a_closed_account_does_not_come_back_and_a_suspended_one_can_be_closed(client, boss):
    who = registered(client)
    path = f"/admin/users/{who.user['id']}"
    assert boss.send("PUT", path, {"active": False}).status_code == 200
    assert boss.send("DELETE", path).status_code == 200
    assert error(boss.send("PUT", path, {"active": True})) == (404, "NOT_FOUND")
    assert error(boss.send("DELETE", path)) == (404, "NOT_FOUND")


# --- sessions -------------------------------------------------------------------------------------------


def test_an_administrator_sees_and_ends_somebodys_sessions(client, boss):
    who = registered(client)
    path = f"/admin/users/{who.user['id']}/sessions"
    second = sign_in(client, who.user["email"]).json["data"]["accessToken"]
    items = boss.get(path).json["data"]["items"]
    assert [it["current"] for it in items] == [False, False]
    assert items == who.get("/auth/sessions").json["data"]["items"][:1] + items[1:]

    assert boss.send("DELETE", f"{path}/{items[0]['id']}").status_code == 200
    assert Visitor(client, second).get("/auth/me").status_code == 401
    assert who.get("/auth/me").status_code == 200
    assert error(boss.send("DELETE", f"{path}/{items[0]['id']}")) == (404, "NOT_FOUND")

    third = sign_in(client, who.user["email"]).json["data"]
    assert boss.send("DELETE", path).status_code == 200
    for token in (who.token, third["accessToken"]):
        assert error(Visitor(client, token).get("/auth/me")) == (401, "UNAUTHORIZED")
    assert error(who.post("/auth/refresh", {"refreshToken": third["refreshToken"]})) == (401, "UNAUTHORIZED")
    assert boss.get(path).json["data"]["items"] == []

    work()
    rows = boss.get("/admin/audit-logs?action=admin.user.sessions_ended").json["data"]["items"]
    assert [row["details"] for row in rows] == [{"sessions": 2}, {"sessionId": items[0]["id"]}]
    told = [event.data for event in event_log.after(0, 1000) if event.type == "auth:user:logged_out"]
    assert told == [{"userId": who.user["id"], "everywhere": everywhere} for everywhere in (False, True)]


def test_somebodys_session_is_found_only_under_them(client, boss):
    who, other = registered(client), registered(client)
    [session] = boss.get(f"/admin/users/{who.user['id']}/sessions").json["data"]["items"]
    wrong = f"/admin/users/{other.user['id']}/sessions/{session['id']}"
    assert error(boss.send("DELETE", wrong)) == (404, "NOT_FOUND")
    for method in ("GET", "DELETE"):
        assert error(boss.send(method, f"/admin/users/{uuid4()}/sessions")) == (404, "NOT_FOUND")
        assert error(who.send(method, f"/admin/users/{who.user['id']}/sessions")) == (403, "FORBIDDEN")
    assert who.get("/auth/me").status_code == 200


def test_the_old_address_is_told_of_a_new_one(client, boss):
    who = registered(client)
    work()
    makers.mailbox.clear()
    boss.send("PUT", f"/admin/users/{who.user['id']}", {"email": (new_address := makers.address())})
    work()
    told = {letter["To"]: letter for letter in makers.mailbox}
    assert told.keys() == {who.user["email"], new_address}
    assert told[who.user["email"]]["Subject"] == "The e-mail address of your account was changed"
    assert new_address not in makers.text_of(told[who.user["email"]])
