"""The page docs/database.md names every table and index, and its diagram is generated from the schema."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import postgres

BEGIN, END = "<!-- diagram -->\n", "<!-- end of diagram -->\n"

COLUMNS = """
    SELECT n.nspname || '.' || c.relname AS table, a.attname AS name, y.typname AS type,
        EXISTS (SELECT FROM pg_constraint k
            WHERE k.conrelid = c.oid AND k.contype = 'p' AND a.attnum = ANY(k.conkey)) AS is_primary,
        (SELECT k.confrelid::regclass::text FROM pg_constraint k
            WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.attnum = ANY(k.conkey)) AS refers_to,
        NOT a.attnotnull AS is_nullable
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type y ON y.oid = a.atttypid
    WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
        AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    ORDER BY 1, a.attnum
"""

INDEXES = """
    SELECT c.relname AS name FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
        AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
"""


def entity(table: str) -> str:
    return table.replace(".", "_")


def diagram_lines() -> Iterator[str]:
    """Yields the schema as a Mermaid entity-relationship diagram."""
    columns = postgres.rows(COLUMNS)
    yield "```mermaid"
    yield "erDiagram"
    for column in columns:
        if column["refers_to"]:
            owner = "|o" if column["is_nullable"] else "||"
            yield f"  {entity(column['refers_to'])} {owner}--o{{ {entity(column['table'])} : {column['name']}"
    for table in sorted({column["table"] for column in columns}):
        yield f"  {entity(table)} {{"
        for column in columns:
            if column["table"] == table:
                keys = [
                    key for key, has in (("PK", column["is_primary"]), ("FK", column["refers_to"])) if has
                ]
                yield f"    {column['type']} {column['name']} {', '.join(keys)}".rstrip()
        yield "  }"
    yield "```"


@pytest.fixture
def page(root: Path) -> Path:
    return root / "docs/database.md"


def test_the_page_has_a_section_for_every_table_and_no_other(stores, page):
    with postgres.connection():
        tables = {row["table"] for row in postgres.rows(COLUMNS)}
    sections = re.findall(r"^### ([a-z]+\.\w+)$", page.read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(tables)


def test_the_page_names_every_table_that_grows(stores, page):
    with postgres.connection():
        tables = {row["table"] for row in postgres.rows(COLUMNS)}
    _, _, growth = page.read_text().partition("## What grows")
    assert set(re.findall(r"`([a-z]+\.\w+)`", growth.partition("\n## ")[0])) == tables


def test_the_page_names_every_index(stores, page):
    with postgres.connection():
        indexes = {row["name"] for row in postgres.rows(INDEXES)}
    named = set(re.findall(r"`([a-z_]+)`", page.read_text().partition("## Diagram")[0]))
    assert len(indexes) > 40
    assert indexes - named == set()


def test_the_diagram_is_generated_from_the_schema(stores, page):
    with postgres.connection():
        diagram = "\n".join(diagram_lines()) + "\n"
    text = page.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    if os.environ.get("UPDATE_DOCS"):
        page.write_text(before + diagram + after)
    else:
        assert text == before + diagram + after, "run with UPDATE_DOCS=1 to write the diagram"
