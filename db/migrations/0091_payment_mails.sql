-- Which mails about the end of a payment were sent: the job of a mail is gone when it is done.

CREATE TABLE payments.payment_mails (
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    payment_id uuid NOT NULL,
    -- To the payee; otherwise to the payer.
    to_payee boolean NOT NULL,
    -- The mail server will never accept it.
    rejected boolean NOT NULL,
    PRIMARY KEY (payment_id, to_payee)
) WITH (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_freeze_min_age = 0, autovacuum_analyze_scale_factor = 0.02);
