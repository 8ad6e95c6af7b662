"""Limits on the members, values and depth of a JSON text, counted before anything is built from it."""

import re

# The tokens of JSON. Every quantifier is possessive and the closing quote may be missing, so each byte is
# read once, also in a text that is not JSON.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?|[\[\]{},:]|[^\s"\[\]{},:]++', re.DOTALL)
MAX_DEPTH = 100
# A member has at most five: name, colon, two brackets, comma.
_TOKENS_PER_VALUE = 5


class TooDeep(Exception):
    """A JSON text is nested more deeply than MAX_DEPTH, which bounds every recursion over its values."""


def exceeded(
    text: bytes, *, members: int, values: int, sized_member: str | None = None, sized_values: int = 0
) -> str | None:
    """The part of a JSON object that exceeds its limit: `body`, the name of the sized member, or None.

    `members` limits the members at the top, `values` all values except those in the top member
    `sized_member`, and `sized_values` those. The count ends at the first limit that is exceeded: a text
    that is refused costs less than one that is read. Raises TooDeep.
    """
    brackets = text.count(b"[") + text.count(b"{")
    if brackets <= MAX_DEPTH and brackets + text.count(b",") < min(members, values):
        # Each value except the first follows a bracket or a comma.
        return None
    name = b"" if sized_member is None else f'"{sized_member}"'.encode()
    max_tokens = _TOKENS_PER_VALUE * (values + sized_values + 1)
    depth = top_members = 0
    # Outside the sized member, and inside.
    counts = [0, 0]
    inside = False
    previous: re.Match[bytes] | None = None
    for number, token in enumerate(_TOKEN.finditer(text)):
        first = text[token.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise TooDeep
            counts[inside] += 1
        elif first in b"]}":
            depth -= 1
        elif first in b",":
            inside = inside and depth > 1
        elif first not in b":":
            counts[inside] += 1
        elif previous and text[previous.start()] in b'"':
            # A colon: the text before it was a name and not a value.
            counts[inside] -= 1
            if depth == 1:
                top_members += 1
                inside = previous.end() - previous.start() == len(name) and previous[0] == name
        if top_members > members or counts[False] > values or number > max_tokens:
            return "body"
        if counts[True] > sized_values:
            return sized_member
        previous = token
    return None
