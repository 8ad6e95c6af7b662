"""The signature of an access token is checked once; that it is valid, at every request."""

from collections.abc import Iterator
from datetime import timedelta
from unittest.mock import patch
from uuid import uuid4

import jwt
import pytest
from freezegun import freeze_time

from api.security import tokens as module
from api.security.keys import Keys
from api.security.tokens import ACCESS_LIFETIME, Tokens, Unauthorized
from db.users import User
from tests.makers import MOMENT

USER = User(id=uuid4(), email="jo@example.com", role="CUSTOMER")
SESSION = uuid4()


def tokens(secret: str = "a" * 40) -> Tokens:
    return Tokens(
        Keys(secret), issuer="us", audience="us", pepper="p" * 40, session_max_age=timedelta(days=30)
    )


@pytest.fixture
def decoded() -> Iterator[list[str]]:
    """The tokens whose signatures are checked."""
    checked: list[str] = []
    decode = jwt.decode

    def record(token: str, *args, **options):
        checked.append(token)
        return decode(token, *args, **options)

    with patch.object(jwt, "decode", record), freeze_time(MOMENT):
        yield checked


def refused(issuer: Tokens, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        issuer.verify(token)
    return str(caught.value.details["reason"])


def test_a_signature_is_checked_once(decoded):
    issuer = tokens()
    token = issuer.access_token(USER, SESSION, MOMENT)
    found = [issuer.verify(token) for _ in range(3)]
    assert {(claims.user_id, claims.session_id) for claims in found} == {(USER.id, SESSION)}
    assert decoded == [token]


def test_a_remembered_token_expires_at_its_second(decoded):
    issuer = tokens()
    token = issuer.access_token(USER, SESSION, MOMENT)
    issuer.verify(token)
    with freeze_time(MOMENT + ACCESS_LIFETIME - timedelta(milliseconds=1)):
        issuer.verify(token)
    with freeze_time(MOMENT + ACCESS_LIFETIME):
        assert refused(issuer, token) == "token_expired"
        # As a process that does not remember it.
        assert refused(tokens(), token) == "token_expired"


def test_a_token_that_differs_in_one_character_is_checked_and_refused(decoded):
    issuer = tokens()
    token = issuer.access_token(USER, SESSION, MOMENT)
    issuer.verify(token)
    head, body, signature = token.split(".")
    other = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    for _ in range(2):
        assert refused(issuer, f"{head}.{body}.{other}") == "token_invalid"
    assert len(decoded) == 3, "a refusal is not remembered"


def test_what_old_keys_accepted_new_keys_refuse(decoded):
    before, after = tokens(), tokens("b" * 40)
    token = before.access_token(USER, SESSION, MOMENT)
    before.verify(token)
    assert refused(after, token) == "token_invalid"


def test_a_bounded_number_of_tokens_is_remembered(decoded, monkeypatch):
    monkeypatch.setattr(module, "MAX_REMEMBERED_TOKENS", 3)
    issuer = tokens()
    made = [issuer.access_token(USER, SESSION, MOMENT) for _ in range(5)]
    for token in made:
        issuer.verify(token)
    issuer.verify(made[4])
    assert len(decoded) == 5
    issuer.verify(made[0])
    assert len(decoded) == 6
