-- What operators need: people page by page, what is known of a closed account, when each job ran last.

CREATE INDEX users_created_at ON auth.users (created_at, id);

-- By them the log is rid of a person's data when an account is closed, and payments find their events.
CREATE INDEX events_occurred_at ON admin.events (occurred_at);
CREATE INDEX events_about ON admin.events ((data ->> 'id'));
CREATE INDEX events_customer_email ON admin.events (lower(data ->> 'customerEmail'))
    WHERE data ->> 'customerEmail' IS NOT NULL;

CREATE TABLE admin.job_runs (
    name varchar(100) PRIMARY KEY,
    promised_at timestamptz NOT NULL
);

-- What the invariants were when they were looked at last, for whoever watches.
CREATE TABLE admin.invariants (
    name varchar(100) PRIMARY KEY,
    count integer NOT NULL,
    offenders jsonb NOT NULL,
    checked_at timestamptz NOT NULL
);
