-- To whom a request belongs that names an address: the user who has proved it, by id, so that it follows them
-- when their address changes. Null: nobody has proved it yet.
ALTER TABLE payments.payments ADD COLUMN addressee_id uuid REFERENCES auth.users (id);
ALTER TABLE payments.payments ADD CONSTRAINT payments_addressee_has_address
    CHECK (customer_email IS NOT NULL OR addressee_id IS NULL);
-- Beside the history, as its other owners: a page of it is a walk along an index. The one column of a history
-- row that changes: with the addressee of its payment.
ALTER TABLE payments.payment_transactions ADD COLUMN addressee_id uuid;

UPDATE payments.payments p SET addressee_id = u.id FROM auth.users u
    WHERE u.email_verified AND p.customer_email IS NOT NULL AND lower(p.customer_email) = lower(u.email);
UPDATE payments.payment_transactions t SET addressee_id = p.addressee_id FROM payments.payments p
    WHERE p.id = t.payment_id AND p.addressee_id IS NOT NULL;

CREATE INDEX payments_addressee_id ON payments.payments (addressee_id, created_at, id)
    WHERE addressee_id IS NOT NULL;
CREATE INDEX payment_transactions_addressee_id ON payments.payment_transactions (addressee_id, created_at, id)
    WHERE addressee_id IS NOT NULL;
-- No list is read by the address any more: only who proves one, and who closes an account, asks by it.
DROP INDEX payments.payments_customer_email;
CREATE INDEX payments_customer_email ON payments.payments (lower(customer_email), id)
    WHERE customer_email IS NOT NULL;
CREATE INDEX payments_unbound ON payments.payments (lower(customer_email), id)
    WHERE customer_email IS NOT NULL AND addressee_id IS NULL;
