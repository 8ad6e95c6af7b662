-- Rows that only say who it was refer to users without a foreign key: its check locks the user's row, so one
-- locked row of one user stalled the audit log and the history of everybody. No user is ever deleted.
ALTER TABLE admin.audit_logs DROP CONSTRAINT audit_logs_user_id_fkey;
ALTER TABLE payments.payment_transactions
    DROP CONSTRAINT payment_transactions_actor_id_fkey,
    DROP CONSTRAINT payment_transactions_user_id_fkey,
    DROP CONSTRAINT payment_transactions_payee_id_fkey;
