"""Two secrets verify during a rotation, each key has one algorithm, and public keys are published."""

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
    """Makes clients of the same installation with other keys."""

    def client_with(**changed: str) -> TestClient:
        return TestClient(create_app(settings.model_copy(update=changed)))

    return client_with


def is_accepted(client: TestClient, token: str) -> bool:
    return Visitor(client, token).get("/auth/me").status_code == 200


def test_no_token_is_refused_at_any_step_of_a_rotation(client_with, tmp_path):
    file = tmp_path / "secrets.env"
    file.write_text(f'A=1\nJWT_SECRET="{OLD}"\nB=2\n')
    before = client_with(jwt_secret=OLD)
    for index, step in enumerate(("add", "promote", "drop")):
        rotate(step, file, NOON + index * ACCESS_LIFETIME)
        values = dotenv_values(file)
        after = client_with(jwt_secret=values["JWT_SECRET"], jwt_secret_other=values["JWT_SECRET_OTHER"])
        # While the processes are restarted one by one, old and new ones run side by side.
        assert is_accepted(after, registered(before).token)
        assert is_accepted(before, registered(after).token)
        before = after
    assert OLD not in file.read_text()
    assert (values["A"], values["B"], values["JWT_SECRET_OTHER"]) == ("1", "2", "")


def test_a_token_of_a_dropped_secret_is_refused(client_with):
    assert not is_accepted(client_with(jwt_secret=NEW), registered(client_with(jwt_secret=OLD)).token)


def test_other_services_verify_with_the_public_key(client_with):
    client = client_with(jwt_secret=OLD, jwt_ed25519=pem())
    token = registered(client).token
    [published] = client.simulate_get("/.well-known/jwks.json").json["keys"]
    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["kid"], header["typ"]) == ("EdDSA", published["kid"], "at+jwt")
    assert "d" not in published
    key = jwt.PyJWK(published)
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="paywright-api", issuer="paywright")
    assert claims["role"] == "CUSTOMER"
    assert is_accepted(client, token)
    # Tokens from before the private key are still accepted.
    assert is_accepted(client, registered(client_with(jwt_secret=OLD)).token)


def test_a_private_key_may_be_written_on_one_line(client_with):
    client = client_with(jwt_secret=OLD, jwt_ed25519=pem().replace("\n", "\\n"))
    assert is_accepted(client, registered(client).token)


def test_a_token_signed_with_the_public_key_is_refused(client_with):
    private = ed25519.Ed25519PrivateKey.generate()
    client = client_with(jwt_secret=OLD, jwt_ed25519=pem(private))
    me = registered(client)
    claims = jwt.decode(me.token, options={"verify_signature": False})
    header = jwt.get_unverified_header(me.token)
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    forged = jwt.encode(claims, raw, "HS256", {**header, "alg": "HS256"})
    assert not is_accepted(client, forged)


def test_a_secret_is_not_published(client):
    result = client.simulate_get("/.well-known/jwks.json")
    assert (result.status_code, result.json) == (200, {"keys": []})


@pytest.mark.parametrize(
    "value",
    [
        "nonsense",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        pem(ec.generate_private_key(ec.SECP256R1())),
    ],
)
def test_a_key_that_is_not_ed25519_stops_the_start(stores, value):
    with pytest.raises(InvalidSetting, match="JWT_ED25519: ") as error:
        WebSettings.read({**SECRETS, **stores, "JWT_ED25519": value})
    assert "\n" not in str(error.value)


def test_a_key_that_only_verifies_does_not_sign():
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    block = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    keys = Keys(OLD, ed25519=block)
    assert keys.signing.algorithm == "HS256"
    assert len(keys.jwks()["keys"]) == 1
    with pytest.raises(ValueError, match="no key that can sign"):
        Keys("", ed25519=block)
