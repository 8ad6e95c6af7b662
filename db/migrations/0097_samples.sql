-- The figures that the live board plots, one row each 15 seconds, so that a restart forgets none of them.

CREATE TABLE admin.samples (
    -- The end of the 15 seconds.
    at timestamptz PRIMARY KEY,
    -- Whether the counts were taken from Redis. Those of the next sample are then of 15 seconds.
    counted boolean NOT NULL,
    -- Null unless they are known to be of these 15 seconds.
    requests bigint,
    errors bigint,
    p95_ms double precision,
    finished jsonb,
    settled bigint NOT NULL,
    lag_ms bigint NOT NULL
);
