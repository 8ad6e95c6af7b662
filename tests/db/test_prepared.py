"""A statement with a name is prepared once a connection, and works the same where it cannot be."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import peewee
import pytest

from db import backlog, postgres
from db.database import Database, StatementOutdated
from db.prepared import BY_INDEX, Statement
from tests.counting import counted
from workers.dev.servers import Postgres

ECHO = Statement(
    "echo_all",
    "SELECT %(id)s::uuid AS id, %(count)s::integer AS count, %(name)s::text AS name, %(at)s::timestamptz AS at,"
    " %(ids)s::uuid[] AS ids, '100 %%' AS percent",
)
NOW = Statement("one", "SELECT 1 AS one")
READ = Statement("read_changing", "SELECT * FROM changing")
WRITE = Statement("write_changing", "INSERT INTO changing (one) VALUES (%(one)s::integer) RETURNING one")
VALUES: dict[str, Any] = {
    "id": UUID("019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"),
    "count": 7,
    "name": "O'Brien %s \\ $1",
    "at": datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC),
    "ids": [uuid4(), uuid4()],
}


@pytest.fixture
def own(postgres_server: Postgres) -> Iterator[Database]:
    """A database of its own with one connection, acquired, and a table whose columns change."""
    database = Database()
    database.configure(postgres_server.url, connections=1)
    database.connect()
    database.execute_sql("CREATE TABLE changing (one integer)")
    yield database
    database.execute_sql("DROP TABLE changing")
    database.close()
    assert database.pool
    database.pool.invalidate()


def fetched(database: Database, statement: Statement, **params: Any) -> Any:
    cursor = database.execute_prepared(statement, params)
    return dict(zip([column.name for column in cursor.description], cursor.fetchone(), strict=True))


def prepared(database: Database) -> list[str]:
    cursor = database.execute_sql("SELECT name FROM pg_prepared_statements ORDER BY name")
    return [name for (name,) in cursor.fetchall()]


def test_it_is_prepared_once_and_gives_what_it_was_given(own):
    assert prepared(own) == []
    for _ in range(3):
        assert fetched(own, ECHO, **VALUES) == {**VALUES, "percent": "100 %"}
    assert prepared(own) == ["echo_all"]
    cursor = own.execute_sql("SELECT generic_plans + custom_plans FROM pg_prepared_statements")
    assert cursor.fetchone() == (3,)


def test_null_and_an_empty_list_have_the_type_of_their_parameter(own):
    nothing: dict[str, Any] = {**dict.fromkeys(VALUES), "ids": []}
    assert fetched(own, ECHO, **nothing) == {**nothing, "percent": "100 %"}


def test_it_gives_the_same_where_a_pooler_stands_between(own):
    own._thread.conn.owns_session = False
    assert fetched(own, ECHO, **VALUES) == {**VALUES, "percent": "100 %"}
    nothing: dict[str, Any] = {**dict.fromkeys(VALUES), "ids": []}
    assert fetched(own, ECHO, **nothing) == {**nothing, "percent": "100 %"}
    assert fetched(own, NOW) == {"one": 1}
    assert prepared(own) == []


def test_it_is_prepared_in_a_transaction_that_is_rolled_back(own):
    with own.atomic() as transaction:
        assert fetched(own, NOW) == {"one": 1}
        transaction.rollback()
    assert fetched(own, NOW) == {"one": 1}
    assert prepared(own) == ["one"]


def test_its_own_failure_leaves_it_prepared(own):
    own.execute_sql("ALTER TABLE changing ADD CHECK (one > 0)")
    for _ in range(2):
        with pytest.raises(peewee.IntegrityError):
            own.execute_prepared(WRITE, {"one": -1})
    assert fetched(own, WRITE, one=5) == {"one": 5}


def test_it_is_prepared_again_after_the_columns_of_its_result_changed(own):
    own.execute_sql("INSERT INTO changing VALUES (1)")
    assert fetched(own, READ) == {"one": 1}
    own.execute_sql("ALTER TABLE changing ADD two integer")
    assert fetched(own, READ) == {"one": 1, "two": None}


def test_it_is_prepared_again_after_the_session_discarded_it(own):
    fetched(own, NOW)
    own.execute_sql("DISCARD ALL")
    assert fetched(own, NOW) == {"one": 1}


def test_in_a_transaction_that_is_lost_by_it_a_retry_succeeds(own):
    own.execute_sql("INSERT INTO changing VALUES (1)")
    fetched(own, READ)
    own.execute_sql("ALTER TABLE changing ADD two integer")
    with pytest.raises(StatementOutdated), own.atomic():
        fetched(own, READ)
    own.close()
    own.connect()
    with own.atomic():
        assert fetched(own, READ) == {"one": 1, "two": None}


def test_an_error_of_another_kind_is_not_retried(own):
    unsupported = Statement("unsupported", "SELECT 1 AS one FROM changing FOR UPDATE OF missing")
    with pytest.raises(peewee.ProgrammingError):
        own.execute_prepared(unsupported, {})


def test_rows_takes_one_as_it_takes_a_text_and_asks_once(database: None):
    with counted() as asked:
        assert postgres.rows(NOW) == [{"one": 1}]
    assert asked.statements == [NOW.execute]
    assert postgres.rows(ECHO, **VALUES) == [{**VALUES, "percent": "100 %"}]


def test_one_that_goes_by_an_index_does_so_though_its_table_was_empty_when_it_was_planned(own):
    own.execute_sql("CREATE INDEX changing_one ON changing (one)")
    own.execute_sql("VACUUM changing")
    by_index = Statement("find_one", "SELECT one FROM changing WHERE one = %(one)s::integer", by_index=True)
    for _ in range(8):
        own.execute_prepared(by_index, {"one": 1})
    plan = own.execute_sql("EXPLAIN EXECUTE find_one (1)").fetchall()
    assert "changing_one" in str(plan)
    assert own.execute_sql("SHOW enable_seqscan").fetchone() == ("on",)


def test_a_transaction_is_told_once_to_go_by_indexes(own):
    by_index = Statement("find_two", "SELECT one FROM changing WHERE one = %(one)s::integer", by_index=True)
    own.execute_prepared(by_index, {"one": 1})
    texts: list[str] = []
    own.query_hooks.append(lambda event: texts.append(event.sql))
    own.execute_prepared(by_index, {"one": 1})
    with own.atomic():
        own.execute_prepared(by_index, {"one": 1})
        own.execute_prepared(by_index, {"one": 1})
    execute = by_index.execute
    assert texts == [f"{BY_INDEX}; {execute}", f"BEGIN; {BY_INDEX}; {execute}", execute, "COMMIT"]


def test_one_is_planned_once_whatever_its_arguments(own):
    has_some = Statement("has_some", "SELECT one FROM changing WHERE one = ANY(%(some)s::integer[])")
    for _ in range(3):
        own.execute_prepared(has_some, {"some": [1]})
    plans = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = 'has_some'"
    assert own.execute_sql(plans).fetchone() == (3, 0)


def test_in_a_commit_that_is_lost_by_it_a_retry_succeeds(own):
    own.execute_sql("INSERT INTO changing VALUES (1)")
    fetched(own, READ)
    own.execute_sql("ALTER TABLE changing ADD two integer")
    with pytest.raises(StatementOutdated), own.atomic():
        own.execute_with_commit(READ, {})
    own.close()
    own.connect()
    with own.atomic():
        own.execute_with_commit(READ, {})


def test_no_statement_is_compiled_because_the_transaction_goes_by_indexes(own):
    own.execute_sql("SET jit = on")
    by_index = Statement("count_changing", "SELECT count(*) AS count FROM changing", by_index=True)
    with own.atomic():
        assert fetched(own, by_index) == {"count": 0}
        assert own.execute_sql("SHOW jit").fetchone() == ("off",)
    assert own.execute_sql("SHOW jit").fetchone() == ("on",)


def test_nor_because_it_prefers_indexes(database: None):
    postgres.rows("SET LOCAL jit = on")
    backlog.prefer_indexes()
    assert postgres.value("SHOW jit") == "off"


def test_a_parameter_without_a_type_and_a_name_given_twice_are_refused():
    with pytest.raises(TypeError, match="needs a type"):
        Statement("untyped", "SELECT %(id)s")
    with pytest.raises(TypeError, match="needs a type"):
        Statement("typed_too_late", "SELECT %(id)s, %(id)s::uuid")
    with pytest.raises(TypeError, match="are named one"):
        Statement("one", "SELECT 2 AS one")
