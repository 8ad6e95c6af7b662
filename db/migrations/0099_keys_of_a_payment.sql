-- A payment has a few rows in its history, and a few calls: sorting those found costs less than an index in their order,
-- whose entries are longer, for every payment.

DROP INDEX payments.payment_transactions_payment_id;
CREATE INDEX payment_transactions_payment_id ON payments.payment_transactions (payment_id);
DROP INDEX payments.psp_attempts_payment_id;
CREATE INDEX psp_attempts_payment_id ON payments.psp_attempts (payment_id);
