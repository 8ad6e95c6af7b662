"""Keys: two alive during a rotation, one algorithm each, and public ones for others."""

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from dotenv import dotenv_values
from falcon.testing import TestClient

from api.app import create_app
from api.security.key_rotation import rotate
from api.security.keys import Keys
from api.security.tokens import ACCESS_LIFETIME
from api.settings import WebSettings
from db.core.settings import InvalidSetting
from tests.makers import MOMENT as NOON
from tests.makers import SECRETS, Visitor, registered

OLD, NEW = "the-old-secret-" * 3, "the-new-secret-" * 3


def pem(key=None) -> str:
    key = key or ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
def client_with(database, settings):
    """Doors of the same installation with other keys."""

    def client_with(**changed: str) -> TestClient:
        return TestClient(create_app(settings.model_copy(update=changed)))

    return client_with


def enters(client: TestClient, token: str) -> bool:
    return Visitor(client, token).get("/auth/me").status_code == 200


def test_no_token_is_refused_at_any_step_of_a_rotation(client_with, tmp_path):
    file = tmp_path / "secrets.env"
    file.write_text(f'A=1\nJWT_SECRET="{OLD}"\nB=2\n')
    before = client_with(jwt_secret=OLD)
    for place, step in enumerate(("add", "promote", "drop")):
        rotate(step, file, NOON + place * ACCESS_LIFETIME)
        values = dotenv_values(file)
        after = client_with(jwt_secret=values["JWT_SECRET"], jwt_secret_other=values["JWT_SECRET_OTHER"])
        # While the processes are restarted one by one, both are there.
        assert enters(after, registered(before).token)
        assert enters(before, registered(after).token)
        before = after
    assert OLD not in file.read_text()
    assert (values["A"], values["B"], values["JWT_SECRET_OTHER"]) == ("1", "2", "")


def test_a_secret_that_was_dropped_is_good_for_nothing(client_with):
    assert not enters(client_with(jwt_secret=NEW), registered(client_with(jwt_secret=OLD)).token)


def test_with_a_private_key_others_can_verify_without_our_secret(client_with):
    client = client_with(jwt_secret=OLD, jwt_ed25519=pem())
    token = registered(client).token
    [published] = client.simulate_get("/.well-known/jwks.json").json["keys"]
    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["kid"], header["typ"]) == ("EdDSA", published["kid"], "at+jwt")
    assert "d" not in published
    key = jwt.PyJWK(published)
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="paywright-api", issuer="paywright")
    assert claims["role"] == "CUSTOMER"
    assert enters(client, token)
    # Tokens from before the private key still enter.
    assert enters(client, registered(client_with(jwt_secret=OLD)).token)


def test_a_private_key_may_stand_on_one_line(client_with):
    client = client_with(jwt_secret=OLD, jwt_ed25519=pem().replace("\n", "\\n"))
    assert enters(client, registered(client).token)


def test_a_public_key_is_no_secret_to_sign_with(client_with):
    private = ed25519.Ed25519PrivateKey.generate()
    client = client_with(jwt_secret=OLD, jwt_ed25519=pem(private))
    me = registered(client)
    claims = jwt.decode(me.token, options={"verify_signature": False})
    header = jwt.get_unverified_header(me.token)
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    forged = jwt.encode(claims, raw, "HS256", {**header, "alg": "HS256"})
    assert not enters(client, forged)


def test_where_a_secret_signs_no_key_is_published(client):
    result = client.simulate_get("/.well-known/jwks.json")
    assert (result.status_code, result.json) == (200, {"keys": []})


@pytest.mark.parametrize(
    "wrong",
    [
        "nonsense",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        pem(ec.generate_private_key(ec.SECP256R1())),
    ],
)
def test_what_is_no_ed25519_key_stops_the_start(stores, wrong):
    with pytest.raises(InvalidSetting, match="JWT_ED25519: ") as error:
        WebSettings.read({**SECRETS, **stores, "JWT_ED25519": wrong})
    assert "\n" not in str(error.value)


def test_a_key_that_only_verifies_does_not_sign():
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    block = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    known = Keys(OLD, ed25519=block)
    assert known.signing.algorithm == "HS256"
    assert len(known.jwks()["keys"]) == 1
    with pytest.raises(ValueError, match="no key that can sign"):
        Keys("", ed25519=block)
