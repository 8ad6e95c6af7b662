"""Users and their sessions, managed by an administrator."""

from uuid import uuid4

import pytest

from db import event_log, payments, sessions
from db.users import Role
from tests import makers
from tests.makers import PASSWORD, Visitor, error, registered, work


@pytest.fixture
def admin(client) -> Visitor:
    user = registered(client, Role.ADMIN)
    work()
    makers.mailbox.clear()
    return user


def new_user(**more):
    return {"email": makers.address(), "name": "New One", "password": PASSWORD, "role": "CUSTOMER", **more}


def sign_in(client, email, password=PASSWORD):
    return client.simulate_post("/api/auth/login", json={"email": email, "password": password})


def test_an_admin_creates_users_of_any_role(client, admin):
    for role in Role:
        body = new_user(role=role, emailVerified=True)
        result = admin.post("/admin/users", body)
        assert result.status_code == 201
        created = result.json["data"]
        assert created == {
            "id": created["id"],
            "email": body["email"],
            "name": "New One",
            "role": role,
            "emailVerified": True,
            "active": True,
            "createdAt": created["createdAt"],
            "updatedAt": created["updatedAt"],
        }
        assert sign_in(client, body["email"]).status_code == 200
        assert admin.get(f"/admin/users/{created['id']}").json["data"] == created
    work()
    assert makers.mailbox == []
    emitted = [event.type for event in event_log.after(0, 1000)]
    assert emitted.count("admin:user:created") == 3


def test_a_user_is_a_customer_by_default(admin):
    body = new_user()
    del body["role"]
    assert admin.post("/admin/users", body).json["data"]["role"] == "CUSTOMER"


def test_an_unverified_user_gets_a_verification_mail(admin):
    body = new_user()
    admin.post("/admin/users", body)
    work()
    assert [message["To"] for message in makers.mailbox] == [body["email"]]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"role": "BOSS"}, "role"),
        ({"password": "12345678"}, "password"),
        ({"email": "x"}, "email"),
        ({"active": True}, "active"),
    ],
)
def test_an_invalid_user_is_refused(admin, more, field):
    result = admin.post("/admin/users", new_user(**more))
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == [field]


def test_an_address_is_unique(admin):
    body = new_user()
    assert admin.post("/admin/users", body).status_code == 201
    assert error(admin.post("/admin/users", new_user(email=body["email"].upper()))) == (409, "EMAIL_TAKEN")
    other = admin.post("/admin/users", new_user()).json["data"]["id"]
    assert error(admin.send("PUT", f"/admin/users/{other}", {"email": body["email"]})) == (409, "EMAIL_TAKEN")
    assert admin.get(f"/admin/users/{other}").json["data"]["email"] != body["email"]


def test_users_are_listed_newest_first_and_filtered(admin):
    ann = admin.post("/admin/users", new_user(name="Ann 100% O_ne", role="VENDOR")).json["data"]
    bob = admin.post("/admin/users", new_user(name="Bob", email="bob.one@shop.example")).json["data"]
    admin.send("DELETE", f"/admin/users/{bob['id']}")

    def found(query: str) -> list[str]:
        return [user["id"] for user in admin.get(f"/admin/users?{query}").json["data"]["items"]]

    assert found("limit=2")[0] == bob["id"]
    assert found("role=VENDOR") == [ann["id"]]
    assert found("q=ann 100%25 o_") == [ann["id"]]
    assert found("q=%25") == [ann["id"]]
    assert found("active=false") == [bob["id"]]
    assert bob["id"] not in found("active=true")
    assert found("q=bob.one") == []
    for query in ("role=BOSS", "q=%00", "q=a%00b", "active=perhaps"):
        assert error(admin.get(f"/admin/users?{query}")) == (400, "VALIDATION_ERROR"), query
    page = admin.get("/admin/users?limit=1").json["data"]
    rest = admin.get(f"/admin/users?limit=100&cursor={page['pagination']['nextCursor']}").json["data"]
    assert page["items"][0]["id"] not in {user["id"] for user in rest["items"]}


def test_a_new_address_is_unverified_and_invalidates_old_links(client, admin):
    user = registered(client)
    work()
    old = makers.mailbox[-1]
    address = makers.address()
    changed = admin.send(
        "PUT", f"/admin/users/{user.user['id']}", {"email": address, "name": "Smith & <b>Sons</b>"}
    )
    assert (changed.json["data"]["email"], changed.json["data"]["emailVerified"]) == (address, False)
    assert changed.json["data"]["name"] == "Smith & Sons"
    work()
    assert makers.mailbox[-1]["To"] == address
    assert client.simulate_get(f"/api/auth/verify-email?token={makers.token_of(old)}").status_code == 400
    assert client.simulate_get(f"/api/auth/verify-email?token={makers.mailbox.token()}").status_code == 200
    assert user.get("/auth/me").json["data"]["email"] == address


@pytest.mark.parametrize(
    "body",
    [{}, {"role": "ADMIN"}, {"active": "no"}, {"active": None}, {"name": None}, {"emailVerified": "yes"}],
)
def test_an_invalid_update_is_refused(client, admin, body):
    user = registered(client)
    assert error(admin.send("PUT", f"/admin/users/{user.user['id']}", body)) == (400, "VALIDATION_ERROR")


def test_a_new_role_takes_effect_at_the_next_request(client, admin):
    user = registered(client)
    assert error(user.get("/admin/users")) == (403, "FORBIDDEN")
    assert admin.send("PUT", f"/admin/users/{user.user['id']}/role", {"role": "ADMIN"}).status_code == 200
    assert user.get("/admin/users").status_code == 200
    admin.send("PUT", f"/admin/users/{user.user['id']}/role", {"role": "VENDOR"})
    assert error(user.get("/admin/users")) == (403, "FORBIDDEN")
    work()
    [changed, *_] = [
        row for row in makers.audit_entries(user.user["id"]) if row.action == "admin.user.role_changed"
    ]
    assert (changed.details, str(changed.user_id)) == ({"from": "CUSTOMER", "to": "ADMIN"}, admin.user["id"])


def test_the_last_admin_is_neither_closed_nor_demoted(client, admin):
    me = admin.user["id"]
    assert error(admin.send("DELETE", f"/admin/users/{me}")) == (409, "LAST_ADMIN")
    assert error(admin.send("PUT", f"/admin/users/{me}/role", {"role": "VENDOR"})) == (409, "LAST_ADMIN")
    assert admin.send("PUT", f"/admin/users/{me}/role", {"role": "ADMIN"}).status_code == 200
    other = registered(client, Role.ADMIN)
    assert other.send("DELETE", f"/admin/users/{me}").status_code == 200
    assert error(other.send("DELETE", f"/admin/users/{other.user['id']}")) == (409, "LAST_ADMIN")


def test_a_closed_account_is_erased_and_its_payments_stay(client, admin):
    customer, vendor = registered(client), registered(client, Role.VENDOR)
    email, id = customer.user["email"], customer.user["id"]
    vendor.post("/payments", {"type": "initiate", "amount": 5, "customerEmail": email.upper()})
    paid = customer.post("/payments", {"type": "payment", "amount": 7}).json["data"]["id"]
    work()
    # The event of this request is not in the log yet when the account is closed.
    vendor.post("/payments", {"type": "initiate", "amount": 6, "customerEmail": email})

    closed = admin.send("DELETE", f"/admin/users/{id}")

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
    assert not [data for data in log if email.lower() in str(data).lower()]
    assert not [data for data in log if data.get("id") == id and data.get("name") != "Closed account"]
    assert admin.get(f"/payments/{paid}").json["data"]["status"] == "completed"
    assert makers.audit_entries(paid)
    assert payments.Payment.select().where(payments.Payment.customer_email == email).count() == 0
    again = client.simulate_post(
        "/api/auth/register", json={"email": email, "password": PASSWORD, "name": "Again"}
    )
    assert again.status_code == 201
    assert error(admin.send("DELETE", f"/admin/users/{id}")) == (404, "NOT_FOUND")
    assert error(admin.send("PUT", f"/admin/users/{id}", {"name": "x"})) == (404, "NOT_FOUND")
    assert admin.get(f"/admin/users/{id}").json["data"]["active"] is False
    assert sessions.Session.select().where(sessions.Session.user_id == id).count() == 0


def test_an_unknown_user_is_not_found(admin):
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "", {"name": "x"}),
        ("DELETE", "", None),
        ("PUT", "/role", {"role": "ADMIN"}),
    ):
        assert error(admin.send(method, f"/admin/users/{uuid4()}{path}", body)) == (404, "NOT_FOUND")


# --- suspended ------------------------------------------------------------------------------------------


def test_a_suspended_user_is_signed_out_until_reactivated(client, admin):
    user = registered(client)
    path = f"/admin/users/{user.user['id']}"
    suspended = admin.send("PUT", path, {"active": False})
    assert (suspended.status_code, suspended.json["data"]["active"]) == (200, False)
    assert error(user.get("/auth/me")) == (401, "UNAUTHORIZED")
    assert error(user.post("/auth/refresh", {"refreshToken": user.refresh_token})) == (401, "UNAUTHORIZED")
    assert error(sign_in(client, user.user["email"])) == (401, "INVALID_CREDENTIALS")
    assert user.user["id"] in [
        user["id"] for user in admin.get("/admin/users?active=false").json["data"]["items"]
    ]

    assert admin.send("PUT", path, {"active": True}).json["data"]["active"] is True
    assert error(user.get("/auth/me")) == (401, "UNAUTHORIZED")
    assert sign_in(client, user.user["email"]).status_code == 200
    work()
    emitted = [
        event.data["active"] for event in event_log.after(0, 1000) if event.type == "admin:user:updated"
    ]
    assert emitted == [False, True]
    rows = admin.get(f"/admin/audit-logs?action=admin.user.updated&resourceId={user.user['id']}").json["data"]
    assert [row["details"] for row in rows["items"]] == [{"fields": ["active"]}] * 2


def test_a_suspended_vendors_open_requests_are_cancelled(client, admin):
    vendor = registered(client, Role.VENDOR)
    body = {"type": "initiate", "amount": "5.00"}
    request = vendor.post("/payments", body).json["data"]["id"]
    work()
    admin.send("PUT", f"/admin/users/{vendor.user['id']}", {"active": False})
    work()
    assert admin.get(f"/payments/{request}").json["data"]["status"] == "cancelled"


def test_the_last_admin_cannot_be_suspended(client, admin):
    path = f"/admin/users/{admin.user['id']}"
    assert error(admin.send("PUT", path, {"active": False})) == (409, "LAST_ADMIN")
    registered(client, Role.ADMIN)
    assert admin.send("PUT", path, {"active": False}).status_code == 200


def test_a_suspended_account_can_be_closed_and_stays_closed(client, admin):
    user = registered(client)
    path = f"/admin/users/{user.user['id']}"
    assert admin.send("PUT", path, {"active": False}).status_code == 200
    assert admin.send("DELETE", path).status_code == 200
    assert error(admin.send("PUT", path, {"active": True})) == (404, "NOT_FOUND")
    assert error(admin.send("DELETE", path)) == (404, "NOT_FOUND")


# --- sessions -------------------------------------------------------------------------------------------


def test_an_admin_lists_and_ends_a_users_sessions(client, admin):
    user = registered(client)
    path = f"/admin/users/{user.user['id']}/sessions"
    second = sign_in(client, user.user["email"]).json["data"]["accessToken"]
    items = admin.get(path).json["data"]["items"]
    assert [session["current"] for session in items] == [False, False]
    assert items == user.get("/auth/sessions").json["data"]["items"][:1] + items[1:]

    assert admin.send("DELETE", f"{path}/{items[0]['id']}").status_code == 200
    assert Visitor(client, second).get("/auth/me").status_code == 401
    assert user.get("/auth/me").status_code == 200
    assert error(admin.send("DELETE", f"{path}/{items[0]['id']}")) == (404, "NOT_FOUND")

    third = sign_in(client, user.user["email"]).json["data"]
    assert admin.send("DELETE", path).status_code == 200
    for token in (user.token, third["accessToken"]):
        assert error(Visitor(client, token).get("/auth/me")) == (401, "UNAUTHORIZED")
    assert error(user.post("/auth/refresh", {"refreshToken": third["refreshToken"]})) == (401, "UNAUTHORIZED")
    assert admin.get(path).json["data"]["items"] == []

    work()
    rows = admin.get("/admin/audit-logs?action=admin.user.sessions_ended").json["data"]["items"]
    assert [row["details"] for row in rows] == [{"sessions": 2}, {"sessionId": items[0]["id"]}]
    emitted = [event.data for event in event_log.after(0, 1000) if event.type == "auth:user:logged_out"]
    assert emitted == [{"userId": user.user["id"], "everywhere": everywhere} for everywhere in (False, True)]


def test_a_session_is_found_only_under_its_user(client, admin):
    user, other = registered(client), registered(client)
    [session] = admin.get(f"/admin/users/{user.user['id']}/sessions").json["data"]["items"]
    wrong = f"/admin/users/{other.user['id']}/sessions/{session['id']}"
    assert error(admin.send("DELETE", wrong)) == (404, "NOT_FOUND")
    for method in ("GET", "DELETE"):
        assert error(admin.send(method, f"/admin/users/{uuid4()}/sessions")) == (404, "NOT_FOUND")
        assert error(user.send(method, f"/admin/users/{user.user['id']}/sessions")) == (403, "FORBIDDEN")
    assert user.get("/auth/me").status_code == 200


def test_the_old_address_is_notified_of_a_new_one(client, admin):
    user = registered(client)
    work()
    makers.mailbox.clear()
    admin.send("PUT", f"/admin/users/{user.user['id']}", {"email": (new_address := makers.address())})
    work()
    mails = {message["To"]: message for message in makers.mailbox}
    assert mails.keys() == {user.user["email"], new_address}
    assert mails[user.user["email"]]["Subject"] == "The e-mail address of your account was changed"
    assert new_address not in makers.text_of(mails[user.user["email"]])
