"""The rotation of JWT_SECRET in an environment file, one step at a time.

`python -m api.security.key_rotation add|promote|drop FILE` takes a step and says what to do before the next one. After
each step the web processes are restarted, one after the other; no token is refused in between:

             JWT_SECRET   JWT_SECRET_OTHER
    add      old          new                 every process verifies with the new secret, none signs with it
    promote  new          old                 the new secret signs; tokens of the old one live 15 more minutes
    drop     new
"""

import re
import secrets
import sys
from datetime import datetime
from pathlib import Path

from dotenv import dotenv_values

from api.security.tokens import ACCESS_LIFETIME
from db.core import times

NEXT_STEP = {
    "add": "A second secret was added. Restart the web processes, then: promote",
    "promote": f"The new secret signs. Restart the web processes, wait {ACCESS_LIFETIME}, then: drop",
    "drop": "The old secret is gone. Restart the web processes.",
}
_SIGNS, _VERIFIES = "JWT_SECRET", "JWT_SECRET_OTHER"
_SETTING = re.compile(rf"(?:export\s+)?({_SIGNS}|{_VERIFIES})=(.*)")
_PROMOTED = "# JWT_SECRET was promoted at "


def rotate(step: str, file: Path, now: datetime) -> None:
    """Takes a step in an environment file, in one write.

    Raises ValueError when the file is not ready for it: a secret that was never promoted is not dropped,
    nor is the old one as long as its tokens live. Values change places as they are written, quotes and all.
    """
    file = file.resolve()
    lines = file.read_text().splitlines()
    values = dotenv_values(file, interpolate=False)
    written = {found[1]: found[2] for line in lines if (found := _SETTING.fullmatch(line))}
    promoted = next((line.removeprefix(_PROMOTED) for line in lines if line.startswith(_PROMOTED)), None)
    match step, bool(values.get(_SIGNS)), bool(values.get(_VERIFIES)), bool(promoted):
        case "add", True, False, False:
            after = [written[_SIGNS], secrets.token_urlsafe(48)]
        case "promote", True, True, False:
            after = [written[_VERIFIES], written[_SIGNS]]
        case "drop", True, True, True:
            if (left := datetime.fromisoformat(promoted or "") + ACCESS_LIFETIME - now).total_seconds() > 0:
                raise ValueError(f"tokens of the old secret live for {left.total_seconds():.0f} more seconds")
            after = [written[_SIGNS], ""]
        case _:
            raise ValueError(f"{step} is not the next step for the JWT_SECRETs in {file}")
    kept = [line for line in lines if not (_SETTING.fullmatch(line) or line.startswith(_PROMOTED))]
    kept += [f"{_PROMOTED}{now.isoformat(timespec='seconds')}"] if step == "promote" else []
    kept += [f"{name}={value}" for name, value in zip((_SIGNS, _VERIFIES), after, strict=True)]
    fresh = file.with_name(f"{file.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_text("\n".join(kept) + "\n")
    fresh.replace(file)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m api.security.key_rotation add|promote|drop FILE")
    try:
        rotate(sys.argv[1], Path(sys.argv[2]), times.now())
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    sys.stdout.write(f"{NEXT_STEP[sys.argv[1]]}\n")
