"""Rotates JWT_SECRET in an environment file, one step at a time, without refusing a token in between.

`python -m api.cli keys rotate add|promote|drop FILE` takes one step and prints what to do before the next.
After each step the web processes are restarted, one after the other:

             JWT_SECRET   JWT_SECRET_OTHER
    add      old          new                 every process verifies with the new secret, none signs with it
    promote  new          old                 the new secret signs; tokens of the old one live 15 more minutes
    drop     new
"""

import re
import secrets
from datetime import datetime, timedelta
from pathlib import Path

from dotenv import dotenv_values, set_key, unset_key

from api.security.tokens import ACCESS_LIFETIME

_MINUTES = ACCESS_LIFETIME // timedelta(minutes=1)

NEXT_STEP = {
    "add": "A second secret was added. Restart the web processes, then: promote",
    "promote": f"The new secret signs. Restart the web processes, wait {_MINUTES} minutes, then: drop",
    "drop": "The old secret is gone. Restart the web processes.",
}
_SIGNING, _OTHER, _PROMOTED_AT = "JWT_SECRET", "JWT_SECRET_OTHER", "JWT_SECRET_PROMOTED_AT"
_NEW_SECRET_BYTES = 48
_EXPORTED = re.compile(rf"^\s*export\s+{_SIGNING}\s*=", re.MULTILINE)
# Values that every reader of an environment file takes without quotes; `docker --env-file` keeps quotes.
_UNQUOTED = re.compile(r"[\w.~+/=:@%,-]*", re.ASCII)


def rotate(step: str, file: Path, now: datetime) -> None:
    """Takes a step in an environment file; the file is replaced as a whole.

    Raises ValueError when the file is not ready for the step: a secret that was never promoted is not
    dropped, nor is the old one while tokens that it signed are valid.
    """
    file = file.resolve()
    values = dotenv_values(file, interpolate=False)
    signing, other, promoted_at = (values.get(name) or "" for name in (_SIGNING, _OTHER, _PROMOTED_AT))
    changes: dict[str, str | None]
    match step, bool(signing), bool(other), bool(promoted_at):
        case "add", True, False, False:
            changes = {_SIGNING: signing, _OTHER: secrets.token_urlsafe(_NEW_SECRET_BYTES)}
        case "promote", True, True, False:
            changes = {_SIGNING: other, _OTHER: signing, _PROMOTED_AT: now.isoformat(timespec="seconds")}
        case "drop", True, True, True:
            left_s = (datetime.fromisoformat(promoted_at) + ACCESS_LIFETIME - now).total_seconds()
            if left_s > 0:
                raise ValueError(f"tokens of the old secret are valid for {left_s:.0f} more seconds")
            changes = {_SIGNING: signing, _OTHER: "", _PROMOTED_AT: None}
        case _:
            raise ValueError(f"{step} is not the next step for the JWT_SECRETs in {file}")
    _replace(file, changes)


def _replace(file: Path, changes: dict[str, str | None]) -> None:
    # A crash between two writes must not lose a secret: all of them go to a copy.
    copy = file.with_name(f"{file.name}.new")
    copy.touch(mode=0o600)
    text = file.read_text()
    copy.write_text(text)
    # A file that a shell reads: without `export`, a process that the shell starts would not get the secret.
    exported = _EXPORTED.search(text) is not None
    for name, value in changes.items():
        if value is None:
            unset_key(copy, name)
        else:
            quote = "never" if _UNQUOTED.fullmatch(value) else "always"
            set_key(copy, name, value, quote_mode=quote, export=exported)
    copy.replace(file)
