"""A plan that is made while the tables are small stays, so it must also suit large ones."""

from collections.abc import Iterator
from typing import Any

import pytest

from db import job_journal, payments, postgres, psp_attempts
from db.prepared import BY_INDEX, Statement

STATEMENTS = [
    payments.LOCK_PAYMENTS,
    payments.APPLY_TRANSITIONS,
    psp_attempts.BEGIN_CHARGES,
    psp_attempts.BEGIN_INQUIRIES,
    psp_attempts.RECORD_RESULTS,
    psp_attempts.MARK_SETTLED,
    job_journal.INSERT,
]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.name)
@pytest.mark.usefixtures("database")
def test_every_table_is_read_by_a_condition_on_an_index(statement: Statement):
    postgres.rows(BY_INDEX)
    postgres.rows(statement.prepare.replace(f"PREPARE {statement.name}", "PREPARE planned"))
    arguments = ", ".join(["NULL"] * statement.execute.count("%("))
    try:
        [explained] = postgres.rows(f"EXPLAIN (FORMAT JSON) EXECUTE planned ({arguments})")
    finally:
        postgres.rows("DEALLOCATE planned")
    read = [node for node in nodes(explained["QUERY PLAN"][0]["Plan"]) if "Scan" in node["Node Type"]]
    tables = [node for node in read if "Index Name" in node or "Relation Name" in node]
    assert tables
    assert [node for node in tables if not node.keys() & {"Index Cond", "Recheck Cond"}] == []
