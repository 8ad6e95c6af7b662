-- An answer that waits to be settled (`Prefer: wait`) has not been given yet, and may still be replaced.
ALTER TABLE payments.idempotency_keys ADD COLUMN to_come boolean NOT NULL DEFAULT false;
