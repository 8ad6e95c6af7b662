"""bcrypt of the C library and of the package: the same hashes, whichever of them computes."""

import bcrypt
import pytest

from api.security import bcrypt_hash

SALT = b"$2b$04$abcdefghijklmnopqrstuu"


def test_a_hash_of_the_package_is_recognised():
    hashed = bcrypt.hashpw(b"secret", SALT)
    assert bcrypt_hash.matches(b"secret", hashed)
    assert not bcrypt_hash.matches(b"secrets", hashed)


def test_the_package_recognises_a_new_hash():
    hashed = bcrypt_hash.new_hash(b"secret", 4)
    assert hashed.startswith(b"$2b$04$")
    assert bcrypt.checkpw(b"secret", hashed)
    assert bcrypt_hash.new_hash(b"secret", 4) != hashed


@pytest.mark.parametrize("password", [b"", b"a", b"\xff" * 72, bytes(range(1, 73))])
def test_every_library_computes_the_same_as_the_package(password):
    for name in bcrypt_hash._LIBRARIES:
        hashpw = bcrypt_hash.of_library(name)
        assert hashpw is None or hashpw(password, SALT) == bcrypt.hashpw(password, SALT)


@pytest.mark.parametrize("name", ["libabsent.so.1", "libc.so.6"])
def test_a_library_without_bcrypt_is_not_used(name):
    assert bcrypt_hash.of_library(name) is None


def test_a_text_that_is_no_hash_is_an_error():
    with pytest.raises(ValueError, match="no hash"):
        bcrypt_hash.matches(b"secret", b"closed")


def test_without_a_library_the_package_computes(monkeypatch):
    monkeypatch.setattr(bcrypt_hash, "_LIBRARIES", ())
    bcrypt_hash._hashpw.cache_clear()
    assert bcrypt_hash.matches(b"secret", bcrypt.hashpw(b"secret", SALT))
    assert bcrypt_hash._hashpw() is bcrypt.hashpw
    bcrypt_hash._hashpw.cache_clear()
