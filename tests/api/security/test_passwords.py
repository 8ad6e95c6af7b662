"""Passwords are recognised by their hashes; and the words of zxcvbn are as it read them from a dict."""

import bcrypt
import pytest
from zxcvbn.matching import RANKED_DICTIONARIES, build_ranked_dict

from api.security.passwords import COMMON_PASSWORDS, Passwords, Ranks

SALT = b"$2b$04$abcdefghijklmnopqrstuu"
WORDS = ["correct", "horse", "battery", "staple", "é", "x" * 30]


@pytest.fixture
def ours():
    return Passwords(pepper="pepper", rounds=4)


def test_a_hash_of_the_package_is_recognised(ours):
    hashed = bcrypt.hashpw(ours._digest("secret"), SALT).decode()
    assert ours.matches("secret", hashed)
    assert not ours.matches("secrets", hashed)


def test_the_package_recognises_a_new_hash(ours):
    hashed = ours.hash("secret")
    assert hashed.startswith("$2b$04$")
    assert bcrypt.checkpw(ours._digest("secret"), hashed.encode())
    assert ours.hash("secret") != hashed


def test_a_text_that_is_no_hash_is_an_error(ours):
    with pytest.raises(ValueError, match="no hash"):
        ours.matches("secret", "closed")


def test_another_function_computes_the_hashes_if_there_is_one():
    ours = Passwords(pepper="pepper", rounds=4, hash_password=lambda password, salt: salt[:29] + password)
    assert ours.hash("secret")[29:] == ours._digest("secret").decode()
    assert ours.matches("secret", ours.hash("secret"))
    assert not ours.matches("secrets", ours.hash("secret"))
    assert not ours.matches("secret", None)


@pytest.mark.parametrize(
    ("cost", "password", "computed"),
    [
        (4, "secrets", [4, 4, 5, 6]),
        (4, "secret", [4]),
        (7, "secrets", [7]),
        (8, "secrets", [8]),
        (None, "", [7]),
    ],
)
def test_a_wrong_password_takes_as_long_whatever_the_cost_was(cost, password, computed):
    costs = []

    def compute(digest: bytes, salt: bytes) -> bytes:
        costs.append(int(salt[4:6]))
        return bcrypt.hashpw(digest, salt)

    ours = Passwords(pepper="pepper", rounds=7, hash_password=compute)
    hashed = Passwords(pepper="pepper", rounds=cost).hash("secret") if cost else None
    assert ours.matches(password, hashed) == (password == "secret")
    assert costs == computed
    # A cost takes twice as long as the one below. Of a dearer hash nothing can be left out.
    assert sum(2**each for each in costs) == 2 ** max(cost or 7, 7) or password == "secret"


def test_every_word_has_its_rank():
    ranks = Ranks(build_ranked_dict(WORDS))
    assert [ranks[word] for word in WORDS] == [1, 2, 3, 4, 5, 6]
    assert all(word in ranks for word in WORDS)


def test_no_other_word_is_found():
    ranks = Ranks(build_ranked_dict(WORDS))
    assert not any(word in ranks for word in ("", "Horse", "hors", "horses", "y" * 30, "x" * 31))


def test_all_dictionaries_are_small():
    assert all(isinstance(ranks, Ranks) for ranks in RANKED_DICTIONARIES.values())
    assert "123456" in COMMON_PASSWORDS
