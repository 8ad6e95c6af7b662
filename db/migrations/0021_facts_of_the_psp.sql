-- What the PSP said is a fact: written with what it was over, and settled later, whoever heard it.

ALTER TABLE payments.psp_attempts
    ADD COLUMN amount numeric(10, 2),
    ADD COLUMN currency varchar(3),
    -- Whatever is decided by now is taken for settled; a default at first, so that no row is rewritten.
    ADD COLUMN settled_at timestamptz DEFAULT now(),
    DROP CONSTRAINT psp_attempts_operation_check,
    ADD CONSTRAINT psp_attempts_operation_check CHECK (operation IN ('charge', 'find', 'notice'));
ALTER TABLE payments.psp_attempts ALTER COLUMN settled_at DROP DEFAULT;
-- But what the payment does not agree with: the reconciler settles it, or opens a review.
UPDATE payments.psp_attempts a SET settled_at = NULL
    FROM payments.payments p
    WHERE p.id = a.payment_id AND a.outcome IN ('charged', 'declined')
        AND p.status <> CASE a.outcome WHEN 'charged' THEN 'completed' ELSE 'failed' END;
CREATE INDEX psp_attempts_unsettled ON payments.psp_attempts (ended_at)
    WHERE outcome IN ('charged', 'declined') AND settled_at IS NULL;

-- The metadata that the PSP was given, where it was changed since: every order under one key is the same order.
ALTER TABLE payments.payments ADD COLUMN ordered_metadata jsonb;
UPDATE payments.payments p SET ordered_metadata = t.args -> 'metadata'
    FROM journal.tasks t
    WHERE t.verb IN ('payments.charge', 'payments.doubt', 'payments.look')
        AND t.args ->> 'payment_id' = p.id::text AND jsonb_typeof(t.args -> 'metadata') = 'object'
        AND t.args -> 'metadata' <> p.metadata;
-- From here on these jobs name the payment and nothing of the order.
UPDATE journal.tasks SET args = args - '{amount,currency,metadata}'::text[]
    WHERE verb IN ('payments.charge', 'payments.doubt', 'payments.look');
