"""Named statements, which a connection parses and plans once, and then only executes.

FIND_USER = Statement("find_user", "SELECT id, email FROM auth.users WHERE id = %(id)s::uuid")

postgres.rows(FIND_USER, id=user_id)
"""

import re

# Sent before the first statement of a transaction that has `by_index`. Neither setting can be reset in the
# same trip, because psycopg2 returns only the last result. A table without a suitable index then costs 1e10,
# for which jit would compile the statement, however small the table.
BY_INDEX = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off"

# The statements of this process by name, which must differ: a session knows a prepared statement by its name.
_by_name: dict[str, "Statement"] = {}

_PLACEHOLDER = re.compile(r"%\((\w+)\)s(?:::(\w+(?:\[\])?))?")


class Statement:
    """A statement with named parameters, each with its PostgreSQL type at the first place where it stands.

    Name the columns of the result: with `*`, a migration that adds a column would make every prepared copy
    invalid. `prepare` and `execute` are for a session that belongs to this connection; `plain` is the same
    statement for a session that another client may get next.

    `by_index` is for tables that are empty at one time and full at another: a plan that was made for the
    empty table, and reads all of it, would stay. Until the end of the transaction, no table with a suitable
    index is read as a whole.
    """

    def __init__(self, name: str, sql: str, *, by_index: bool = False) -> None:
        types: dict[str, str] = {}
        for parameter, type in _PLACEHOLDER.findall(sql):
            if not types.setdefault(parameter, type):
                raise TypeError(f"{name}: the parameter {parameter} needs a type where it stands first")
        if _by_name.setdefault(name, self) is not self:
            raise TypeError(f"two statements are named {name}")
        self.name = name
        self.plain = _PLACEHOLDER.sub(lambda found: f"%({found[1]})s::{types[found[1]]}", sql)
        numbers = {parameter: f"${number}" for number, parameter in enumerate(types, 1)}
        signature = f"({', '.join(types.values())})" if types else ""
        text = _PLACEHOLDER.sub(lambda found: numbers[found[1]], sql)
        self.prepare = f"PREPARE {name} {signature} AS {text}"
        arguments = f"({', '.join(f'%({parameter})s' for parameter in types)})" if types else ""
        self.execute = f"EXECUTE {name} {arguments}"
        self.by_index = by_index
