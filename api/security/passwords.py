"""Password hashing and strength.

bcrypt runs over a keyed digest: no password is cut at 72 bytes, and a stolen table is worth little without
the pepper.
"""

import base64
import hashlib
import hmac
import re
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from unicodedata import normalize

import bcrypt
from zxcvbn.frequency_lists import FREQUENCY_LISTS
from zxcvbn.matching import L33T_TABLE, RANKED_DICTIONARIES, build_ranked_dict, omnimatch
from zxcvbn.scoring import most_guessable_match_sequence
from zxcvbn.time_estimates import guesses_to_score

from api.security.hashing import HashPassword, fastest_bcrypt

# On zxcvbn's scale of 0 to 4: at least a million guesses.
MIN_SCORE = 2
# The time that zxcvbn takes grows faster than the square of the length. Of a longer password both ends are
# scored: the whole is at least as hard to guess as either.
SCORED_CHARACTERS = 50
# How much of a name or an e-mail address is compared with a password.
_CONTEXT_CHARACTERS = 100
# Shorter words of the context match by chance.
_MIN_CONTEXT_WORD = 3
PRODUCT = "paywright"

# zxcvbn tries every combination of the signs in a password that may stand for a letter (`4` and `@` for `a`):
# fifty signs chosen for that cost seconds. Above this many combinations, one sign stands for each letter.
_MAX_COMBINATIONS = 16
_ONE_SIGN_PER_LETTER = {ord(sign): signs[0] for signs in L33T_TABLE.values() for sign in signs[1:]}


def weakness(password: str, *, email: str, name: str) -> str | None:
    """Returns why this user must not have this password; None when it is strong.

    The length is not checked here.
    """
    password = normalize("NFC", password)
    plain = password.strip().casefold()
    email = email[:_CONTEXT_CHARACTERS].casefold()
    name = normalize("NFC", name[:_CONTEXT_CHARACTERS]).casefold().strip()
    local_part = email.partition("@")[0]
    if plain in COMMON_PASSWORDS:
        return "is among the most common passwords"
    if plain in {email, local_part, name}:
        return "must not be the e-mail address or the name"
    words = re.split(r"[\W_]+", f"{email} {name}")
    # `robindoe1` is as easy to guess as `robin`: the words of a name are also one word when joined.
    joined = [re.sub(r"[\W_]+", "", text) for text in (name, local_part)]
    context = [PRODUCT, email, local_part, name, *joined, *words]
    ends = {password[:SCORED_CHARACTERS], password[-SCORED_CHARACTERS:]}
    if not any(guesses_to_score(guesses(end, context)) >= MIN_SCORE for end in ends):
        return "is easy to guess: choose a longer one, or several unrelated words"
    return None


def guesses(password: str, context: list[str]) -> float:
    """Returns how many guesses an attacker who knows these words needs, as zxcvbn estimates."""
    combinations = 1
    for signs in L33T_TABLE.values():
        combinations *= max(1, sum(sign in password for sign in signs))
    if combinations > _MAX_COMBINATIONS:
        password = password.translate(_ONE_SIGN_PER_LETTER)
    # zxcvbn.zxcvbn() would write the context into a dictionary that all threads share.
    words = build_ranked_dict([word for word in context if len(word) >= _MIN_CONTEXT_WORD])
    dictionaries = {**RANKED_DICTIONARIES, "user_inputs": words}
    return float(most_guessable_match_sequence(password, omnimatch(password, dictionaries))["guesses"])


class Ranks:
    """The rank of each word of a dictionary, found by the word's hash of 64 bits: a tenth of the memory.

    zxcvbn's own dictionaries of 94,000 strings took 13 MB of each process. That another word has the same
    hash is less likely than one in 10**14.
    """

    def __init__(self, ranks: Mapping[str, int]) -> None:
        by_hash = sorted((hash(word), rank) for word, rank in ranks.items())
        # The largest possible hash comes last, so that the search for any word ends inside the array.
        self._hashes = array("q", [hashed for hashed, _ in by_hash] + [2**63 - 1])
        self._ranks = array("H", [rank for _, rank in by_hash])
        self._longest = max(map(len, ranks))

    def __contains__(self, word: str) -> bool:
        if len(word) > self._longest:
            return False
        hashed = hash(word)
        return self._hashes[bisect_left(self._hashes, hashed)] == hashed

    def __getitem__(self, word: str) -> int:
        return self._ranks[bisect_left(self._hashes, hash(word))]


# In place: zxcvbn refers to this dictionary by itself, for repeated parts of a password.
RANKED_DICTIONARIES.update({name: Ranks(ranks) for name, ranks in RANKED_DICTIONARIES.items()})
FREQUENCY_LISTS.clear()
COMMON_PASSWORDS: Ranks = RANKED_DICTIONARIES["passwords"]


class Passwords:
    """Hashes and verifies passwords with the pepper and the cost of an installation."""

    def __init__(self, *, pepper: str, rounds: int, hash_password: HashPassword | None = None) -> None:
        self._pepper = pepper.encode()
        self._rounds = rounds
        compute = fastest_bcrypt()
        # Without a given function, the calling thread computes.
        self._hash_password = hash_password or compute
        # Compared when there is no user: an unknown e-mail must take as long as a known one.
        self._dummy_hash = compute(self._digest("nobody"), bcrypt.gensalt(rounds)).decode()

    def hash(self, password: str) -> str:
        return self._hash_password(self._digest(password), bcrypt.gensalt(self._rounds)).decode()

    def matches(self, password: str, hashed: str | None) -> bool:
        """Returns whether the password has this hash. Raises ValueError for a text that is no hash of bcrypt.

        Without a hash the result is False, after the same time. So it is of a hash from before the cost was
        raised: an attacker cannot see which accounts exist.
        """
        expected = (hashed or self._dummy_hash).encode()
        if not expected.startswith(b"$2b$"):
            # The C library would compare it as a hash of another kind.
            raise ValueError("no hash of bcrypt")
        digest = self._digest(password)
        found = self._hash_password(digest, expected)
        same = hmac.compare_digest(found, expected) and hashed is not None
        if not same:
            # Each cost doubles the time: all costs from the hash's own take, with it, as long as the new one.
            for cost in range(int(expected[4:6]), self._rounds):
                self._hash_password(digest, bcrypt.gensalt(cost))
        return same

    def needs_rehash(self, hashed: str) -> bool:
        """Returns whether the hash has another cost than new hashes."""
        return not hashed.startswith(f"$2b${self._rounds:02}$")

    def pseudonym(self, address: str) -> str:
        """Returns what is stored in place of an e-mail address without an account.

        64 hexadecimal digits, keyed with the pepper.
        """
        labelled = b"address\0" + address.strip().casefold().encode()
        return hmac.new(self._pepper, labelled, hashlib.sha256).hexdigest()

    def _digest(self, password: str) -> bytes:
        # bcrypt reads 72 bytes at most and stops at a NUL: 64 characters of base64 avoid both. NFC makes a
        # password the same however a keyboard composes its accents.
        keyed = hmac.digest(self._pepper, normalize("NFC", password).encode(), hashlib.sha384)
        return base64.b64encode(keyed)
