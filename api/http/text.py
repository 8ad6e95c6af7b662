"""Text that people write: HTML markup is taken out, everything else stays as it came."""

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

# Five times the longest field, in characters.
LONGEST = 10_000

# What the HTML standard takes for the beginning of markup; `a < b`, `1 <2` and `<3` are none.
_OPENING = re.compile(r"<(?:[A-Za-z]|!--|[/!?])")
# A tag to its end: a `>` in a quoted attribute is not it. Possessive (`*+`): what cannot match fails at once.
_TAG = re.compile(r"""<[A-Za-z](?:[^>"']|"[^"]*+"|'[^']*+')*+>""")
_NAME = re.compile(r"[A-Za-z][^\s/>]*")
_COMMENT = re.compile(r"<!--(?:-?>|.*?--!?>)", re.DOTALL)
# Elements that change how the rest of a page is read, or load something.
_TAKES_OVER = (
    "applet|audio|base|body|button|embed|fencedframe|form|frame|frameset|head|html|iframe|image|img|input|link|"
    "listing|marquee|math|meta|noembed|noframes|noscript|object|option|plaintext|portal|script|select|source|"
    "style|svg|table|template|textarea|title|video|xmp"
)
# Half a tag, at the end of the text: in a page, what follows would close it. `a<b`, `if x<y then` are none.
_HALF = re.compile(rf"<(?:!--|/[A-Za-z]|(?:{_TAKES_OVER})\b|[A-Za-z][^<]*=)", re.IGNORECASE)
# Their content is no text either; it ends at nothing but the end tag.
_SILENT = {name: re.compile(rf"(?=</{name}[\s/>])", re.IGNORECASE) for name in ("script", "style")}


def clean(text: str) -> str:
    """The text without its markup; cleaning twice is cleaning once. Linear in the length of the text.

    Libraries return HTML (nh3: `Smith &amp; Sons`), or depend on the patch release (html.parser).
    """
    kept: list[str] = []
    last_end = text.rfind(">")
    quoting = True
    at = 0
    while found := _OPENING.search(text, at):
        start = found.start()
        _keep(kept, text[at:start])
        if start > last_end:
            # No more markup is closed. `a<b` is a comparison; the rest is text, unless it is half a tag.
            if _HALF.match(text, start):
                return "".join(kept)
            kept.append(found[0])
            at = found.end()
        elif found[0] == "<!--":
            at = _end(_COMMENT.match(text, start), text)
        else:
            tag = _TAG.match(text, start) if quoting else None
            # After a quote that nobody closes, quotes mean nothing: every tag would look for its end anew.
            quoting = quoting and (tag is not None or not found[0][1].isalpha())
            at = tag.end() if tag else text.index(">", start) + 1
            name = _NAME.match(text, start + 1)
            if name and (ending := _SILENT.get(name[0].lower())):
                at = _end(ending.search(text, at), text)
    _keep(kept, text[at:])
    return "".join(kept)


def _keep(kept: list[str], piece: str) -> None:
    """Adds text. What was taken out before it may have parted a `<` from its tag: `<<b></b>script>`."""
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
    # A text is cleaned first and measured then, so how much there is to clean has a limit of its own.
    if len(text) > LONGEST:
        raise PydanticCustomError("wrong", f"should have at most {LONGEST} characters, markup included")
    return clean(text)


Text = Annotated[str, AfterValidator(_cleaned)]
