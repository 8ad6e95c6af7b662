"""Verifies exports of the audit log, needs only Python: python verify_audit.py FILE… (one log, in order)."""

import json
import sys
from datetime import datetime
from hashlib import sha256

SHOWN = "seq id userId action resourceType resourceId details ipAddress userAgent requestId".split()


def verify(lines):
    """Returns the number of entries and the hash of the last one. Raises ValueError at the first fault."""
    rows, seq, hash, end = 0, None, None, None
    for line in map(json.loads, lines):
        if "start" in line:
            if (seq, hash) not in ((None, None), (line["start"]["seq"], line["start"]["hash"])):
                raise ValueError(f"a part is missing after entry {seq}")
            seq, hash, before, end = line["start"]["seq"], line["start"]["hash"], rows, None
        elif "end" in line:
            end = line
            if (line["end"]["seq"], line["end"]["hash"], line["end"]["rows"]) != (seq, hash, rows - before):
                raise ValueError(f"entries are missing after entry {seq}")
        else:
            entry, rows, seq = json.loads(line["entry"]), rows + 1, line["seq"]
            at = datetime.fromisoformat(line["createdAt"].replace("Z", "+00:00")).timestamp()
            hash = sha256(bytes.fromhex(hash) + line["entry"].encode()).hexdigest()
            shown = entry[:10] == [line[name] for name in SHOWN] and abs(at - entry[10]) < 0.002
            if hash != line["hash"] or not shown:
                raise ValueError(f"entry {seq} ({line['id']}) was changed, or an entry before it is missing")
    if end is None or (end["seal"]["seq"], end["seal"]["hash"]) != (seq, hash):
        raise ValueError(f"the log goes on after entry {seq}, and the export does not")
    return rows, hash


if __name__ == "__main__":
    try:
        parts = (line for name in sys.argv[1:] for line in open(name, encoding="utf-8"))
        print("intact: %d entries, the last hash is %s" % verify(parts))
    except (ValueError, KeyError, TypeError) as fault:
        sys.exit(f"NOT intact: {fault}")
