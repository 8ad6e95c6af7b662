-- Keys that cost every payment an index entry or a lock, and say nothing that another one does not say.

-- A history row and an audit entry are found along the time, an event along its number. Ids of version 7 begin with the
-- time, so that the key of the list is as good a primary key as the id alone.
DROP INDEX payments.payment_transactions_created_at;
ALTER TABLE payments.payment_transactions DROP CONSTRAINT payment_transactions_pkey,
    ADD CONSTRAINT payment_transactions_pkey PRIMARY KEY (created_at, id);
DROP INDEX admin.audit_logs_created_at;
ALTER TABLE admin.audit_logs DROP CONSTRAINT audit_logs_pkey,
    ADD CONSTRAINT audit_logs_pkey PRIMARY KEY (created_at, id);
ALTER TABLE admin.events DROP CONSTRAINT events_pkey, DROP CONSTRAINT events_seq_key,
    ADD CONSTRAINT events_pkey PRIMARY KEY (seq);

-- Users and payments are never deleted, and no id changes: now a trigger says so, instead of a check of each new row,
-- which locks the row that it refers to. What refers to a payment is written by a statement that reads or inserts it.
CREATE TRIGGER users_not_deleted BEFORE DELETE OR TRUNCATE ON auth.users
    FOR EACH STATEMENT EXECUTE FUNCTION admin.refuse_change();
CREATE TRIGGER payments_not_deleted BEFORE DELETE OR TRUNCATE ON payments.payments
    FOR EACH STATEMENT EXECUTE FUNCTION admin.refuse_change();
ALTER TABLE payments.payments DROP CONSTRAINT payments_user_id_fkey, DROP CONSTRAINT payments_payee_id_fkey,
    DROP CONSTRAINT payments_addressee_id_fkey;
ALTER TABLE payments.payment_transactions DROP CONSTRAINT payment_transactions_payment_id_fkey;
ALTER TABLE payments.idempotency_keys DROP CONSTRAINT idempotency_keys_user_id_fkey,
    DROP CONSTRAINT idempotency_keys_payment_id_fkey;
ALTER TABLE payments.psp_attempts DROP CONSTRAINT psp_attempts_payment_id_fkey;
