-- A review is a row of its own: why a person has to look at a payment, since when, and how it was resolved. No
-- step of the payment wipes it: a person resolves it, or the disproof of its cause.

CREATE TABLE payments.payment_reviews (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    payment_id uuid NOT NULL REFERENCES payments.payments (id),
    cause varchar(50) NOT NULL CHECK (cause IN ('psp_silent', 'charged_after_end', 'declined_after_completion',
        'amount_differs', 'statement_charged', 'statement_declined', 'statement_differs', 'request_moved', 'other')),
    reason text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at timestamptz,
    -- Null in a resolved row: its cause was disproved, and nobody had to look.
    resolved_by uuid REFERENCES auth.users (id),
    resolution text,
    CHECK ((resolved_at IS NULL) = (resolution IS NULL)),
    CHECK (resolved_by IS NULL OR resolved_at IS NOT NULL)
);
CREATE INDEX payment_reviews_payment_id ON payments.payment_reviews (payment_id, opened_at, id);
-- The same reason is open once, whoever finds it at the same moment.
CREATE UNIQUE INDEX payment_reviews_open ON payments.payment_reviews (payment_id, reason)
    WHERE resolved_at IS NULL;

INSERT INTO payments.payment_reviews (payment_id, cause, reason, opened_at)
    SELECT id, CASE
        WHEN review = 'the PSP does not answer' THEN 'psp_silent'
        WHEN review LIKE 'the PSP charged it, but it is %' THEN 'charged_after_end'
        WHEN review LIKE 'the PSP declined it, but it is %' THEN 'declined_after_completion'
        WHEN review LIKE 'the PSP says: %' THEN 'amount_differs'
        WHEN review LIKE '%statement says: charged, but the payment is processing' THEN 'statement_charged'
        WHEN review LIKE '%statement says: declined, but the payment is processing' THEN 'statement_declined'
        WHEN review LIKE '%statement says: %' THEN 'statement_differs'
        WHEN review LIKE 'it is %, but its payment %' THEN 'request_moved'
        ELSE 'other' END, review, updated_at
    FROM payments.payments WHERE review IS NOT NULL;

DROP INDEX payments.payments_review;
ALTER TABLE payments.payments DROP COLUMN review;
