-- Who reads the event log, how far each has come, and what it gave up.

CREATE TABLE admin.subscriptions (
    -- A subscriber and one of its handlers: `hub.letters`.
    name varchar(100) PRIMARY KEY,
    -- Everything up to here is done with.
    seq bigint NOT NULL,
    -- How often it was begun since it last got on, a try that killed its process included.
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    error text,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE admin.missed_events (
    name varchar(100) NOT NULL,
    seq bigint NOT NULL,
    error text NOT NULL,
    given_up_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, seq)
);

-- The letters about all payments that have ended by now were promised by the payments' own steps. From here on
-- the hub promises them, also for what ends before it first runs.
INSERT INTO admin.subscriptions (name, seq) SELECT 'hub.letters', coalesce(max(seq), 0) FROM admin.events;
