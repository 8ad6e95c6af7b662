-- Sums of payments by the day of their creation, so that a report over years reads a few rows a day. A terminal payment
-- never changes its status, amount or currency: the totals of a day whose payments are all terminal are final.

CREATE TABLE payments.closed_days (
    day date NOT NULL,
    type varchar(50) NOT NULL,
    closed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (day, type)
);

CREATE TABLE payments.daily_totals (
    day date NOT NULL,
    type varchar(50) NOT NULL,
    -- Null: the total of all payees.
    payee_id uuid,
    currency varchar(3) NOT NULL,
    status varchar(50) NOT NULL,
    count bigint NOT NULL,
    amount numeric NOT NULL
);
CREATE INDEX daily_totals_payee_id ON payments.daily_totals (payee_id, day);
