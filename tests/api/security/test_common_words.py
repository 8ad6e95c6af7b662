"""zxcvbn reads its words as it read them from a dict."""

from zxcvbn.matching import RANKED_DICTIONARIES, build_ranked_dict

from api.security.common_words import COMMON_PASSWORDS, Ranks

WORDS = ["correct", "horse", "battery", "staple", "é", "x" * 30]


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
