-- Invariants that could not be looked at are no green ones, and the audit log is verified in steps.

ALTER TABLE admin.invariants
    -- Null where it is not known how many break it: looking could not be finished, and `reason` says why.
    ALTER COLUMN count DROP NOT NULL,
    ADD COLUMN reason text;

-- How far a verification of the audit log has come: of the newest rows, each minute; of all, while it is under
-- way. Whoever can rewrite the log can rewrite this too: the log line of each verification is the witness.
CREATE TABLE admin.audit_verifications (
    name varchar(20) PRIMARY KEY CHECK (name IN ('newest', 'whole')),
    seq bigint NOT NULL,
    hash varchar(64) NOT NULL,
    rows bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Dead jobs are few, whatever else there is in the journal.
CREATE INDEX tasks_dead ON journal.tasks (verb, dead_at) WHERE dead_at IS NOT NULL;
