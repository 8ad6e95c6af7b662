-- What /health writes. A read-only database, or one on a full disk, answers every question and refuses each
-- request that changes something. One row: all processes write the same, and none waits for another.
CREATE TABLE journal.health_check (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO journal.health_check DEFAULT VALUES;
