"""An export of the audit log is verified outside, by a script that trusts nothing but the hashes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from actors import audit
from actors.audit import AuditAction
from actors.jobs import transaction
from api.admin import audit_logs
from api.http import admission
from db import audit_chain
from db.users import Role
from tests.makers import Visitor, error, invalid_fields, registered, work

Lines = list[dict]  # type: ignore[type-arg]

AWKWARD = {
    "text": 'a "quoted" \\ slash / é 🙂 \t\x7f',
    "number": 1.5,
    "nested": {"b": [1, None, True], "a": {}},
}


@pytest.fixture
def admin(client) -> Visitor:
    admin = registered(client, Role.ADMIN)
    for number in range(3):
        with transaction():
            audit.record(
                AuditAction.USER_UPDATED, resource=("user", uuid4()), details={**AWKWARD, "count": number}
            )
    work()
    return admin


@pytest.fixture
def verified(root: Path, tmp_path: Path) -> Callable[..., tuple[bool, str]]:
    """Runs the script on these exports; whether they are intact, and what it says."""

    def verified(*exports: str) -> tuple[bool, str]:
        paths = [tmp_path / f"{number}.ndjson" for number in range(len(exports))]
        for path, export in zip(paths, exports, strict=True):
            path.write_text(export)
        # -I: nothing but Python itself.
        script = str(root / "docs/operations/verify_audit.py")
        command = [sys.executable, "-I", script, *map(str, paths)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in run.stderr
        return run.returncode == 0, run.stdout + run.stderr

    return verified


def export(admin: Visitor, query: str = "") -> str:
    result = admin.get(f"/admin/audit-logs/export{query}")
    assert result.status_code == 200
    assert result.headers["Content-Type"] == "application/x-ndjson"
    return result.text


def changed(text: str, change: Callable[[Lines], object]) -> str:
    lines = [json.loads(line) for line in text.splitlines()]
    change(lines)
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def test_a_true_export_is_intact(admin, verified):
    text = export(admin)
    first, *entries, last = (json.loads(line) for line in text.splitlines())
    assert first == {"start": {"seq": 0, "hash": "00" * 32}}
    assert last["end"] == {**last["seal"], "rows": len(entries)}
    [shown] = [
        item
        for item in admin.get("/admin/audit-logs?action=admin.user.updated").json["data"]["items"]
        if item["details"]["count"] == 2
    ]
    [exported] = [entry for entry in entries if entry["id"] == shown["id"]]
    assert {name: exported[name] for name in shown} == shown
    assert verified(text) == (
        True,
        f"intact: {len(entries)} entries, the last hash is {last['seal']['hash']}\n",
    )
    assert audit_chain.seal().hash == last["seal"]["hash"]


def test_parts_of_an_export_are_verified_together(admin, verified):
    one = export(admin, "?limit=2")
    end = json.loads(one.splitlines()[-1])["end"]["seq"]
    two = export(admin, f"?after={end}")
    assert verified(one, two)[0]
    assert verified(one) == (
        False,
        f"NOT intact: the log goes on after entry {end}, and the export does not\n",
    )
    # A part may be verified alone, from where it begins.
    assert verified(two)[0]
    three = export(admin, f"?after={end + 1}")
    assert verified(one, three) == (False, f"NOT intact: a part is missing after entry {end}\n")


TAMPERINGS = {
    "a field": lambda lines: lines[2].update(action="nothing.happened"),
    "the time": lambda lines: lines[2].update(createdAt="2020-01-01T00:00:00.000Z"),
    "details": lambda lines: lines[-2]["details"].update(count=9),
    "the hashed text": lambda lines: lines[2].update(entry=lines[2]["entry"].replace("0", "1")),
    "an entry removed": lambda lines: lines.pop(2),
    "two entries swapped": lambda lines: lines.insert(2, lines.pop(3)),
    "an entry repeated": lambda lines: lines.insert(2, lines[2]),
    "a member missing": lambda lines: lines[2].pop("hash"),
    "the start": lambda lines: lines[0]["start"].update(hash="11" * 32),
    "the start removed": lambda lines: lines.pop(0),
}
TRUNCATIONS = {
    "the end": lambda lines: lines.pop(),
    "the newest entries": lambda lines: lines.__delitem__(slice(-3, -1)),
    "the newest entries and the end": lambda lines: lines.__delitem__(slice(-3, None)),
    "all": lambda lines: lines.clear(),
}


@pytest.mark.parametrize("change", TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_a_tampered_export_is_not_intact(admin, verified, change):
    intact, said = verified(changed(export(admin), change))
    assert not intact
    assert said.startswith("NOT intact: ")


@pytest.mark.parametrize("change", TRUNCATIONS.values(), ids=TRUNCATIONS.keys())
def test_a_truncated_export_is_not_intact(admin, verified, change):
    assert not verified(changed(export(admin), change))[0]


def test_an_export_that_was_cut_within_a_line_is_not_intact(admin, verified):
    assert not verified(export(admin)[:-20])[0]


def test_an_export_is_a_file_of_bounded_length(admin, monkeypatch):
    result = admin.get("/admin/audit-logs/export?limit=1")
    seq = json.loads(result.text.splitlines()[1])["seq"]
    assert result.headers["Content-Disposition"] == f'attachment; filename="audit-log-0-{seq}.ndjson"'
    assert len(result.text.splitlines()) == 3
    assert invalid_fields(
        admin.get(f"/admin/audit-logs/export?limit={audit_logs.MAX_ENTRIES + 1}&after=-1")
    ) == {
        "limit",
        "after",
    }


def test_a_few_entries_are_exported_while_a_large_export_is_under_way(admin):
    with admission.slot(audit_logs._slots):
        assert admin.get("/admin/audit-logs/export?limit=10").status_code == 200
        assert admin.get("/admin/audit-logs/export").status_code == 503


def test_one_entry_is_shown_with_its_place_in_the_chain(admin):
    [item] = admin.get("/admin/audit-logs?limit=1").json["data"]["items"]
    entry = admin.get(f"/admin/audit-logs/{item['id']}").json["data"]
    assert {name: entry[name] for name in item} == item
    assert (entry["seq"], entry["hash"]) == (audit_chain.seal().seq, audit_chain.seal().hash)
    assert error(admin.get(f"/admin/audit-logs/{uuid4()}")) == (404, "NOT_FOUND")
