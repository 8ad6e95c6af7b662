-- No release wrote it. The API's `metadata` of a transaction is its former status and its reason, which are columns.
ALTER TABLE payments.payment_transactions DROP COLUMN metadata;
