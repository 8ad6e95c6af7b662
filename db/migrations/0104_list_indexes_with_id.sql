-- The indexes of lists end with the id again. Without it the order of a page is not that of the index, and the planner, who does
-- not know how many rows a prepared statement asks for, sorted all payments of a customer for each page.
DROP INDEX payments.payments_created_at, payments.payments_user_id, payments.payments_payee_id, payments.payments_currency;
CREATE INDEX payments_created_at ON payments.payments (created_at, id);
CREATE INDEX payments_user_id ON payments.payments (user_id, created_at, id);
CREATE INDEX payments_payee_id ON payments.payments (payee_id, created_at, id) WHERE payee_id IS NOT NULL;
CREATE INDEX payments_currency ON payments.payments (currency, created_at, id);

DROP INDEX payments.payment_transactions_user_id, payments.payment_transactions_payee_id;
CREATE INDEX payment_transactions_user_id ON payments.payment_transactions (user_id, created_at, id);
CREATE INDEX payment_transactions_payee_id ON payments.payment_transactions (payee_id, created_at, id)
    WHERE payee_id IS NOT NULL;

DROP INDEX admin.audit_logs_user_id, admin.audit_logs_resource_id;
CREATE INDEX audit_logs_user_id ON admin.audit_logs (user_id, created_at, id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_logs_resource_id ON admin.audit_logs (resource_id, created_at, id);
