-- Promised work: outbox, task journal and inbox in one. A row is written in the transaction that makes its
-- work due, and removed in the one that does it: one INSERT and one DELETE, nothing else, on a good day.

CREATE SCHEMA journal;

CREATE TABLE journal.tasks (
    id uuid PRIMARY KEY,
    -- Sorts what one transaction promised; never a watermark, for a late commit may carry a small number.
    position bigint GENERATED ALWAYS AS IDENTITY,
    verb varchar(100) NOT NULL,
    queue varchar(50) NOT NULL,
    args jsonb NOT NULL,
    request_id varchar(128),
    attempts integer NOT NULL DEFAULT 0,
    -- When it was last sent, and when the relay sends it again.
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at timestamptz NOT NULL,
    -- Until when an effect has it in hand.
    leased_until timestamptz,
    error text,
    -- Given up: waits for an operator.
    dead_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX tasks_due_at ON journal.tasks (queue, due_at) WHERE dead_at IS NULL;
CREATE INDEX tasks_verb ON journal.tasks (verb, position) WHERE dead_at IS NULL;
