"""The field type of text that people write: HTML markup is removed, all other text stays unchanged."""

import re
from typing import Annotated

from pydantic import AfterValidator

from api.http.fields import invalid

# In characters, markup included: five times the longest field.
MAX_UNCLEANED = 10_000

# What starts markup by the HTML standard. `a < b`, `1 <2` and `<3` start none.
_OPENING = re.compile(r"<(?:[A-Za-z]|!--|[/!?])")
# A tag to its end, which is not a `>` in a quoted attribute. Possessive (`*+`), so that a text without an end
# fails at once.
_TAG = re.compile(r"""<[A-Za-z](?:[^>"']|"[^"]*+"|'[^']*+')*+>""")
_NAME = re.compile(r"[A-Za-z][^\s/>]*")
_COMMENT = re.compile(r"<!--(?:-?>|.*?--!?>)", re.DOTALL)
# Elements that change how the rest of a page is parsed, or load a resource.
_ACTIVE_ELEMENTS = (
    "applet|audio|base|body|button|embed|fencedframe|form|frame|frameset|head|html|iframe|image|img|input|link|"
    "listing|marquee|math|meta|noembed|noframes|noscript|object|option|plaintext|portal|script|select|source|"
    "style|svg|table|template|textarea|title|video|xmp"
)
# An unclosed tag at the end of the text, which the page around it would close. `a<b`, `if x<y then` are text.
_UNCLOSED = re.compile(rf"<(?:!--|/[A-Za-z]|(?:{_ACTIVE_ELEMENTS})\b|[A-Za-z][^<]*=)", re.IGNORECASE)
# Elements whose content is removed too; only the end tag ends it.
_REMOVED_CONTENT = {name: re.compile(rf"(?=</{name}[\s/>])", re.IGNORECASE) for name in ("script", "style")}


def clean(text: str) -> str:
    """Returns the text without its markup. Idempotent, and linear in the length of the text.

    No library serves: nh3 returns HTML (`Smith &amp; Sons`), and html.parser parses differently in each patch
    release of Python.
    """
    kept: list[str] = []
    last_end = text.rfind(">")
    quoting = True
    position = 0
    while found := _OPENING.search(text, position):
        start = found.start()
        _keep(kept, text[position:start])
        if start > last_end:
            # No later markup is closed: the rest is text (`a<b`), unless it is an unclosed tag.
            if _UNCLOSED.match(text, start):
                return "".join(kept)
            kept.append(found[0])
            position = found.end()
        elif found[0] == "<!--":
            position = _end(_COMMENT.match(text, start), text)
        else:
            tag = _TAG.match(text, start) if quoting else None
            # After an unclosed quote, quotes are ignored: every further tag would search the whole text.
            quoting = quoting and (tag is not None or not found[0][1].isalpha())
            position = tag.end() if tag else text.index(">", start) + 1
            name = _NAME.match(text, start + 1)
            if name and (ending := _REMOVED_CONTENT.get(name[0].lower())):
                position = _end(ending.search(text, position), text)
    _keep(kept, text[position:])
    return "".join(kept)


def _keep(kept: list[str], piece: str) -> None:
    """Adds text after removed markup, which may have separated a `<` from its tag: `<<b></b>script>`."""
    if piece and (piece[0].isalpha() or piece[0] in "/!?"):
        while kept and kept[-1].endswith("<"):
            kept[-1] = kept[-1].rstrip("<")
            if kept[-1]:
                break
            kept.pop()
    if piece:
        kept.append(piece)


def _end(found: re.Match[str] | None, text: str) -> int:
    return found.end() if found else len(text)


def _cleaned(text: str) -> str:
    # The field's own limit applies to the cleaned text, so the text to clean has its own limit.
    if len(text) > MAX_UNCLEANED:
        raise invalid(f"should have at most {MAX_UNCLEANED} characters, markup included")
    return clean(text)


Text = Annotated[str, AfterValidator(_cleaned)]
