"""Passwords: bcrypt over a keyed digest, so that none is cut and a stolen table alone is worth little."""

import base64
import hashlib
import hmac
import re
from unicodedata import normalize

import bcrypt
from zxcvbn.frequency_lists import FREQUENCY_LISTS
from zxcvbn.matching import L33T_TABLE, RANKED_DICTIONARIES, build_ranked_dict, omnimatch
from zxcvbn.scoring import most_guessable_match_sequence
from zxcvbn.time_estimates import guesses_to_score

# The most used ones of public leaks, as the zxcvbn project collected them; in lower case.
_COMMON = frozenset(FREQUENCY_LISTS["passwords"])

# Of 0 to 4: at least a million guesses.
LOWEST_SCORE = 2
# zxcvbn takes time with the square of the length and more: of a longer one both ends are scored, as it is at
# least as hard to guess as either.
SCORED_CHARACTERS = 50
# How much of a name or an address is looked for in a password.
_CONTEXT_CHARACTERS = 100
PRODUCT = "paywright"

# One sign for all that may stand for the same letter: zxcvbn tries every combination of those that are there,
# and fifty signs chosen for it cost seconds.
_ONE_SIGN = {ord(sign): signs[0] for signs in L33T_TABLE.values() for sign in signs[1:]}
_MOST_COMBINATIONS = 16


def weak(password: str, *, email: str, name: str) -> str | None:
    """Why a password is no good for this person, beyond its length; None when it is."""
    password = normalize("NFC", password)
    plain = password.strip().casefold()
    email, name = (
        email[:_CONTEXT_CHARACTERS].casefold(),
        normalize("NFC", name[:_CONTEXT_CHARACTERS]).casefold(),
    )
    if plain in _COMMON:
        return "is among the most common passwords"
    if plain in {email, email.partition("@")[0], name.strip()}:
        return "must not be the e-mail address or the name"
    local = email.partition("@")[0]
    words = re.split(r"[\W_]+", f"{email} {name}")
    # `robindoe1` is guessed as soon as `robin` is: written together they are one word.
    joined = [re.sub(r"[\W_]+", "", whole) for whole in (name, local)]
    context = [PRODUCT, email, local, name.strip(), *joined, *words]
    ends = {password[:SCORED_CHARACTERS], password[-SCORED_CHARACTERS:]}
    if not any(guesses_to_score(guesses(end, context)) >= LOWEST_SCORE for end in ends):
        return "is easy to guess: choose a longer one, or several words that do not belong together"
    return None


def guesses(password: str, context: list[str]) -> float:
    """How many guesses a password takes for who knows these words, as zxcvbn estimates."""
    combinations = 1
    for signs in L33T_TABLE.values():
        combinations *= max(1, sum(sign in password for sign in signs))
    if combinations > _MOST_COMBINATIONS:
        password = password.translate(_ONE_SIGN)
    # Not zxcvbn.zxcvbn: it keeps the context in a dictionary that all threads share.
    dictionaries = {
        **RANKED_DICTIONARIES,
        "user_inputs": build_ranked_dict([it for it in context if len(it) > 2]),
    }
    return float(most_guessable_match_sequence(password, omnimatch(password, dictionaries))["guesses"])


class Passwords:
    """Hashes and verifies with this installation's pepper and cost."""

    def __init__(self, *, pepper: str, rounds: int) -> None:
        self._pepper = pepper.encode()
        self._rounds = rounds
        # What an unknown e-mail is compared with: it must cost what a known one does.
        self._nobody = self.hash("nobody")

    def hash(self, password: str) -> str:
        """A new bcrypt hash."""
        return bcrypt.hashpw(self._digest(password), bcrypt.gensalt(self._rounds)).decode()

    def match(self, password: str, hashed: str | None) -> bool:
        """Whether it is the one; False after the same time when there is no hash."""
        same = bcrypt.checkpw(self._digest(password), (hashed or self._nobody).encode())
        return same and hashed is not None

    def stale(self, hashed: str) -> bool:
        """Whether the hash was made at another cost than today's."""
        return not hashed.startswith(f"$2b${self._rounds:02}$")

    def pseudonym(self, address: str) -> str:
        """What is kept of an address that nobody has: 64 hexadecimal digits, keyed with the pepper."""
        named = b"address\0" + address.strip().casefold().encode()
        return hmac.new(self._pepper, named, hashlib.sha256).hexdigest()

    def _digest(self, password: str) -> bytes:
        # bcrypt sees 72 bytes at most and stops at a NUL: 64 characters of base64 have neither problem.
        # One password, however a keyboard composes its accents.
        keyed = hmac.digest(self._pepper, normalize("NFC", password).encode(), hashlib.sha384)
        return base64.b64encode(keyed)
