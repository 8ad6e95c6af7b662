-- Whose change it was, beside it: so that a page of a person's history is a walk along an index, however many
-- payments there are. Neither column of a payment ever changes.

ALTER TABLE payments.payment_transactions ADD COLUMN user_id uuid REFERENCES auth.users (id);
ALTER TABLE payments.payment_transactions ADD COLUMN payee_id uuid REFERENCES auth.users (id);
UPDATE payments.payment_transactions t SET user_id = p.user_id, payee_id = p.payee_id
    FROM payments.payments p WHERE p.id = t.payment_id;
ALTER TABLE payments.payment_transactions ALTER COLUMN user_id SET NOT NULL;
CREATE INDEX payment_transactions_user_id ON payments.payment_transactions (user_id, created_at, id);
CREATE INDEX payment_transactions_payee_id ON payments.payment_transactions (payee_id, created_at, id)
    WHERE payee_id IS NOT NULL;
