"""The ids of new rows."""

import time
from uuid import RFC_4122

from db.core.ids import uuid7


def test_an_id_begins_with_the_time():
    before = time.time_ns() // 1_000_000
    id = uuid7()
    assert before <= id.int >> 80 <= time.time_ns() // 1_000_000
    assert (id.version, id.variant) == (7, RFC_4122)


def test_ids_made_one_after_another_sort_in_this_order():
    # Two within 244 ns could differ in the random part alone.
    made = []
    for _ in range(100):
        made.append(uuid7())
        time.sleep(0.000_01)
    assert made == sorted(made)
    assert len({id.int & (1 << 62) - 1 for id in made}) == 100
