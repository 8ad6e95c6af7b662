"""Sessions over real processes: many tabs at once, and an end that everybody notices."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil

from tests.flows.conftest import Stack
from tests.makers import PASSWORD, address, until


def register(stack: Stack) -> dict[str, str]:
    body = {"email": address(), "password": PASSWORD, "name": "Jo"}
    data = stack.http.post("/api/auth/register", json=body).raise_for_status().json()["data"]
    return {"email": body["email"], "access": data["accessToken"], "refresh": data["refreshToken"]}


def status(stack: Stack, access: str) -> int:
    # A route for which a process remembers the caller.
    return stack.http.get("/api/payments", headers={"Authorization": f"Bearer {access}"}).status_code


@contextmanager
def no_redis(stack: Stack):
    stack.valkey.stop()
    try:
        yield
    finally:
        stack.valkey.start()
        until(lambda: stack.health() == "ok")


def test_twenty_tabs_that_refresh_at_once_stay_signed_in(stack: Stack):
    me = register(stack)
    refresh = {"refreshToken": me["refresh"]}
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: stack.http.post("/api/auth/refresh", json=refresh), range(20)))
    assert {answer.status_code for answer in answers} == {200}
    data = [answer.json()["data"] for answer in answers]
    assert len({result["refreshToken"] for result in data}) == 1
    assert {status(stack, result["accessToken"]) for result in data} == {200}
    query = (
        "SELECT count(*) AS n FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id WHERE u.email = %s"
    )
    assert stack.rows(query, me["email"])[0]["n"] == 1


def test_sign_ins_go_on_when_the_processes_that_compute_their_hashes_are_killed(stack: Stack):
    bodies = [{"email": register(stack)["email"], "password": PASSWORD} for _ in range(12)]
    web = psutil.Process(stack.pid("web.1"))

    def processes() -> list[psutil.Process]:
        return [child for process in web.children() for child in process.children()]

    def sign_in(body: dict[str, str]) -> int:
        return stack.http.post("/api/auth/login", json=body).status_code

    def all_replaced() -> bool:
        """Whether none is left of those that were killed, after sign-ins that may have needed them."""
        assert list(pool.map(sign_in, bodies)) == [200] * 12
        return not set(processes()) & set(killed)

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(sign_in, body) for body in bodies]
        answers[0].result()
        killed = processes()
        assert killed
        # One of them may have just started.
        until(lambda: {process.nice() for process in killed} == {min(19, web.nice() + 10)})
        until(lambda: {process.num_fds() for process in killed} == {3})
        assert all(os.getpgid(process.pid) == process.pid for process in killed)
        for process in killed:
            process.kill()
        # All of these may have ended before.
        assert [answer.result() for answer in answers] == [200] * 12
        # A web process notices at its next sign-in, and any of them may answer these.
        until(all_replaced)
    assert len(processes()) <= max(2, os.cpu_count() or 1)


def test_twenty_registrations_of_one_address_make_one_account(stack: Stack):
    body = {"email": address(), "password": PASSWORD, "name": "Jo"}
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: stack.http.post("/api/auth/register", json=body), range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19


def test_a_sign_out_is_known_to_every_process_at_once_with_redis_or_without(stack: Stack):
    for away in (False, True):
        me = register(stack)
        assert statuses(stack, me) == {200}
        if away:
            with no_redis(stack):
                assert ended(stack, me) == {401}
        else:
            assert ended(stack, me) == {401}


def ended(stack: Stack, me: dict[str, str]) -> set[int]:
    headers = {"Authorization": f"Bearer {me['access']}"}
    assert stack.http.post("/api/auth/logout", headers=headers).status_code == 200
    return statuses(stack, me)


def statuses(stack: Stack, me: dict[str, str]) -> set[int]:
    """The statuses of enough requests to reach every process."""
    with ThreadPoolExecutor(10) as pool:
        return set(pool.map(lambda _: status(stack, me["access"]), range(30)))


def test_the_logs_hold_no_password_no_token_and_no_whole_address(stack: Stack):
    me = register(stack)
    headers = {"Authorization": f"Bearer {me['access']}"}
    secrets = [me["access"], me["refresh"], PASSWORD, me["email"]]
    again = stack.http.post("/api/auth/login", json={"email": me["email"], "password": PASSWORD}).json()[
        "data"
    ]
    secrets += [again["accessToken"], again["refreshToken"]]
    change = {"currentPassword": PASSWORD, "newPassword": "a password of tomorrow"}
    assert stack.http.put("/api/auth/password", json=change, headers=headers).status_code == 200
    secrets.append(change["newPassword"])
    stack.http.post("/api/auth/login", json={"email": me["email"], "password": "wrong", "more": me["email"]})
    stack.http.post("/api/auth/forgot-password", json={"email": me["email"]})
    folder = stack.directory / "mail"
    mails = until(
        lambda: [mail for mail in folder.glob("reset-password.*.eml") if me["email"] in mail.read_text()]
    )
    [token] = set(re.findall(r"token=([\w-]+)", mails[0].read_text()))
    answer = stack.http.get(
        "/api/auth/verify-email", params={"token": token}, headers={"X-Request-ID": "the-last"}
    )
    assert answer.status_code == 400
    secrets.append(token)

    log = until(lambda: stack.log() if '"the-last"' in stack.log() else "")
    assert '"/api/auth/password"' in log
    assert [secret for secret in secrets if secret in log] == []
