-- The PSP's statements, day by day, as it sent them: what our payments are matched against.

CREATE TABLE payments.statements (
    day date PRIMARY KEY,
    lines integer NOT NULL,
    differences integer NOT NULL,
    matched_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE payments.statement_lines (
    -- The PSP's own id of the booking: under one reference of ours there must be one, and may be two.
    id varchar(255) PRIMARY KEY,
    day date NOT NULL,
    reference varchar(255) NOT NULL,
    amount numeric(10, 2) NOT NULL,
    currency varchar(3) NOT NULL,
    outcome varchar(50) NOT NULL CHECK (outcome IN ('charged', 'declined')),
    booked_at timestamptz NOT NULL
);
CREATE INDEX statement_lines_day ON payments.statement_lines (day);
CREATE INDEX statement_lines_reference ON payments.statement_lines (reference);
