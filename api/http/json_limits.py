"""How many members and values a JSON text holds: counted in the text, before anything is built from it."""

import re

# The tokens of JSON. Every quantifier is possessive and the closing quote may be missing, so each byte is
# read once, also in what is no JSON.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?|[\[\]{},:]|[^\s"\[\]{},:]++', re.DOTALL)
DEEPEST = 100
# A member has five at most: name, colon, two brackets, comma.
_TOKENS_A_VALUE = 5


class TooDeep(Exception):
    """A JSON text is nested more deeply than anything that is read recursively should be."""


def exceeded(
    text: bytes, *, members: int, values: int, apart: str | None = None, apart_values: int = 0
) -> str | None:
    """The part of a JSON object that holds too much: `body`, the name of the member `apart`, or None.

    The object may have so many members at its top and so many values in all; the top member `apart` has a
    limit of its own. The count ends at the first limit that is passed: what is refused costs less than what
    is read. Raises TooDeep.
    """
    brackets = text.count(b"[") + text.count(b"{")
    if brackets <= DEEPEST and brackets + text.count(b",") < min(members, values):
        # Every value but the first follows one of these.
        return None
    name = b"" if apart is None else f'"{apart}"'.encode()
    most_tokens = _TOKENS_A_VALUE * (values + apart_values + 1)
    depth = named = 0
    counted = [0, 0]
    inside = False
    before: re.Match[bytes] | None = None
    for number, found in enumerate(_TOKEN.finditer(text)):
        first = text[found.start()]
        if first in b"[{":
            depth += 1
            if depth > DEEPEST:
                raise TooDeep
            counted[inside] += 1
        elif first in b"]}":
            depth -= 1
        elif first in b",":
            inside = inside and depth > 1
        elif first not in b":":
            counted[inside] += 1
        elif before and text[before.start()] in b'"':
            # The text before it was a name.
            counted[inside] -= 1
            if depth == 1:
                named += 1
                inside = before.end() - before.start() == len(name) and before[0] == name
        if named > members or counted[False] > values or number > most_tokens:
            return "body"
        if counted[True] > apart_values:
            return apart
        before = found
    return None
