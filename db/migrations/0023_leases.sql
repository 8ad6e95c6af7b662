-- Who is alone at something: scheduling, publishing. A row and not a session lock: a holder that hangs or whose
-- machine is gone is replaced when its time is over, and a pooler in transaction mode may stand in between.

CREATE TABLE journal.leases (
    name varchar(100) PRIMARY KEY,
    holder varchar(200) NOT NULL,
    -- One more at each taking: a replaced holder is known by its old number.
    generation bigint NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);
