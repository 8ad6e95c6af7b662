-- Rows of one moment are few: a page that ends among them sorts them. Without the id an entry of a list's index is 16 bytes
-- shorter, in ten entries for each payment.
DROP INDEX payments.payments_created_at, payments.payments_user_id, payments.payments_payee_id, payments.payments_currency;
CREATE INDEX payments_created_at ON payments.payments (created_at);
CREATE INDEX payments_user_id ON payments.payments (user_id, created_at);
CREATE INDEX payments_payee_id ON payments.payments (payee_id, created_at) WHERE payee_id IS NOT NULL;
CREATE INDEX payments_currency ON payments.payments (currency, created_at);

DROP INDEX payments.payment_transactions_user_id, payments.payment_transactions_payee_id;
CREATE INDEX payment_transactions_user_id ON payments.payment_transactions (user_id, created_at);
CREATE INDEX payment_transactions_payee_id ON payments.payment_transactions (payee_id, created_at)
    WHERE payee_id IS NOT NULL;

DROP INDEX admin.audit_logs_user_id, admin.audit_logs_resource_id;
CREATE INDEX audit_logs_user_id ON admin.audit_logs (user_id, created_at) WHERE user_id IS NOT NULL;
CREATE INDEX audit_logs_resource_id ON admin.audit_logs (resource_id, created_at);
