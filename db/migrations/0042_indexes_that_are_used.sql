-- Whoever proves an address, and whoever closes an account, asks for requests that nobody has proved yet: the index
-- of those alone does for both.
DROP INDEX payments.payments_customer_email;
-- A call that was under way during migration 0021 was not decided, and so not settled.
UPDATE payments.psp_attempts SET settled_at = NULL WHERE outcome IS NULL AND settled_at IS NOT NULL;
