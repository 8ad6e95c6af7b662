-- The first answer to a request with an Idempotency-Key: written in the transaction of what it did.

CREATE TABLE payments.idempotency_keys (
    user_id uuid NOT NULL REFERENCES auth.users (id),
    key varchar(255) NOT NULL,
    -- The SHA-256 of method, path and body, in hex: what the key stands for.
    request varchar(64) NOT NULL,
    -- Null only inside the transaction that is giving the answer.
    status integer,
    body bytea,
    payment_id uuid REFERENCES payments.payments (id),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_created_at ON payments.idempotency_keys (created_at);
