-- The addresses that an account had before: whoever closes it is erased under all of them. Its erasure ends with
-- their removal.
CREATE TABLE auth.former_addresses (
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    -- In lower case, as addresses are compared.
    email varchar(255) NOT NULL,
    PRIMARY KEY (user_id, email)
);

-- What the event log knows of earlier ones.
INSERT INTO auth.former_addresses (user_id, email)
    SELECT DISTINCT u.id, lower(e.data ->> 'email') FROM admin.events e JOIN auth.users u ON u.id::text = e.data ->> 'id'
    WHERE u.active AND e.data ->> 'email' IS NOT NULL AND lower(e.data ->> 'email') <> lower(u.email);

-- By it the answers are found that show the address of a customer who is gone.
CREATE INDEX idempotency_keys_payment_id ON payments.idempotency_keys (payment_id);
