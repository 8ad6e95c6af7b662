"""The common passwords, names and words that zxcvbn collected, in a tenth of the memory.

Its dictionaries of 94,000 strings took 13 MB of each process.
"""

from array import array
from bisect import bisect_left
from collections.abc import Mapping

from zxcvbn.frequency_lists import FREQUENCY_LISTS
from zxcvbn.matching import RANKED_DICTIONARIES

# Makes a hash, which may be negative, a positive number.
_OFFSET = 2**63


class Ranks:
    """The rank of each word, as zxcvbn reads it from a dict: by the word's hash, of 64 bits.

    That another word has the same hash is less likely than one in 10**14.
    """

    def __init__(self, ranks: Mapping[str, int]) -> None:
        by_hash = sorted((hash(word), rank) for word, rank in ranks.items())
        # The last one is larger than every hash: then each word has a place.
        self._hashes = array("Q", [hashed + _OFFSET for hashed, _ in by_hash] + [2**64 - 1])
        self._ranks = array("l", [rank for _, rank in by_hash])
        self._longest = max(map(len, ranks))

    def __contains__(self, word: str) -> bool:
        if len(word) > self._longest:
            return False
        hashed = hash(word) + _OFFSET
        return self._hashes[bisect_left(self._hashes, hashed)] == hashed

    def __getitem__(self, word: str) -> int:
        return self._ranks[bisect_left(self._hashes, hash(word) + _OFFSET)]


def _shrink() -> None:
    # In place: zxcvbn refers to this dictionary by itself, for repeated parts of a password.
    for name, ranks in RANKED_DICTIONARIES.items():
        RANKED_DICTIONARIES[name] = Ranks(ranks)
    FREQUENCY_LISTS.clear()


_shrink()
COMMON_PASSWORDS: Ranks = RANKED_DICTIONARIES["passwords"]
