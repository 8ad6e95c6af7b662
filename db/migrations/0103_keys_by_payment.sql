-- Expired keys are found by the ids of their payments, which begin with the time. Each new key wrote to this index, too
-- (64 bytes of WAL).
DROP INDEX payments.idempotency_keys_created_at;
