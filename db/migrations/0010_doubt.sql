-- What is known of a payment that the PSP has not decided: what it was asked, when, and what came of it.

CREATE TABLE payments.psp_attempts (
    id uuid PRIMARY KEY,
    payment_id uuid NOT NULL REFERENCES payments.payments (id),
    operation varchar(50) NOT NULL CHECK (operation IN ('charge', 'find')),
    -- The idempotency key that the PSP was given: written before it was asked.
    reference varchar(255) NOT NULL,
    -- Null as long as it is under way; and for ever, where the process died over it.
    outcome varchar(50)
        CHECK (outcome IN ('charged', 'declined', 'not_found', 'unavailable', 'no_answer')),
    code varchar(100),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz
);
CREATE INDEX psp_attempts_payment_id ON payments.psp_attempts (payment_id, created_at, id);

-- Why a person should look at it; null while nobody needs to.
ALTER TABLE payments.payments ADD COLUMN review text;
CREATE INDEX payments_review ON payments.payments (created_at, id) WHERE review IS NOT NULL;
-- When the reconciler last took it up.
ALTER TABLE payments.payments ADD COLUMN reconciled_at timestamptz;
CREATE INDEX payments_processing ON payments.payments (coalesce(reconciled_at, updated_at))
    WHERE type = 'payment' AND status = 'processing';
-- Requests that may expire.
CREATE INDEX payments_open_requests ON payments.payments (created_at)
    WHERE type = 'initiate' AND status = 'initiated';

-- The stub's own memory of what it was asked to play, and how often it was asked.
CREATE TABLE psp.orders (
    idempotency_key varchar(255) PRIMARY KEY,
    simulate varchar(255) NOT NULL,
    calls integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX charges_created_at ON psp.charges (created_at, idempotency_key);
