-- The stubbed PSP's own ledger. It stands in for a database of another company: nothing here refers to a
-- table of ours, and only the stub writes it.

CREATE SCHEMA psp;

CREATE TABLE psp.charges (
    idempotency_key varchar(255) PRIMARY KEY,
    payment_id uuid NOT NULL,
    amount numeric(10, 2) NOT NULL,
    currency varchar(3) NOT NULL,
    outcome varchar(50) NOT NULL CHECK (outcome IN ('charged', 'declined')),
    code varchar(100),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX charges_payment_id ON psp.charges (payment_id);
