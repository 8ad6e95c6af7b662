"""bcrypt of the C library and of the package: the same hashes."""

import bcrypt
import pytest

from api.security import hashing
from api.security.passwords import Passwords

SALT = b"$2b$04$abcdefghijklmnopqrstuu"


@pytest.mark.parametrize("password", [b"", b"a", b"\xff" * 72, bytes(range(1, 73))])
def test_every_library_computes_the_same_as_the_package(password):
    for name in hashing._LIBRARIES:
        hashpw = hashing.bcrypt_of(name)
        assert hashpw is None or hashpw(password, SALT) == bcrypt.hashpw(password, SALT)


@pytest.mark.parametrize("name", ["libabsent.so.1", "libc.so.6"])
def test_a_library_without_bcrypt_is_not_used(name):
    assert hashing.bcrypt_of(name) is None


@pytest.fixture
def no_library(monkeypatch):
    monkeypatch.setattr(hashing, "_LIBRARIES", ())
    hashing.fastest_bcrypt.cache_clear()
    yield
    hashing.fastest_bcrypt.cache_clear()


@pytest.mark.usefixtures("no_library")
def test_without_a_library_the_package_computes():
    assert hashing.fastest_bcrypt() is bcrypt.hashpw
    ours = Passwords(pepper="pepper", rounds=4)
    assert ours.matches("secret", ours.hash("secret"))
