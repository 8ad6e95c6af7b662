-- The money: payments and payment requests, and every change of their status.
-- Created-at is clock_timestamp(), not now(): two changes in one transaction must not share a moment.

CREATE SCHEMA payments;

CREATE TABLE payments.payments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES auth.users (id),
    type varchar(50) NOT NULL CHECK (type IN ('initiate', 'payment')),
    status varchar(50) NOT NULL
        CHECK (status IN ('pending', 'initiated', 'processing', 'completed', 'failed', 'cancelled')),
    amount numeric(10, 2) NOT NULL CHECK (amount > 0),
    currency varchar(3) NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
    description text,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    -- The request that this payment pays, and the vendor whom it pays.
    request_id uuid REFERENCES payments.payments (id),
    payee_id uuid REFERENCES auth.users (id),
    customer_email varchar(255),
    failure_code varchar(100),
    failure_message text,
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT payments_initiated_is_a_request CHECK (type = 'initiate' OR status <> 'initiated'),
    CONSTRAINT payments_request_pays_nothing CHECK (type = 'payment' OR request_id IS NULL),
    CONSTRAINT payments_request_is_addressed CHECK (type = 'initiate' OR customer_email IS NULL),
    CONSTRAINT payments_only_failed_has_failure CHECK (status = 'failed' OR failure_code IS NULL)
);
-- At most one live payment a request, whoever races.
CREATE UNIQUE INDEX payments_one_live_per_request ON payments.payments (request_id)
    WHERE request_id IS NOT NULL AND status IN ('pending', 'processing', 'completed');
-- The pages of a list, newest first: of all, of a payer, of a payee, of an addressed customer, of a status.
CREATE INDEX payments_created_at ON payments.payments (created_at, id);
CREATE INDEX payments_user_id ON payments.payments (user_id, created_at, id);
CREATE INDEX payments_payee_id ON payments.payments (payee_id, created_at, id) WHERE payee_id IS NOT NULL;
CREATE INDEX payments_customer_email ON payments.payments (lower(customer_email), created_at, id)
    WHERE customer_email IS NOT NULL;
CREATE INDEX payments_request_id ON payments.payments (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX payments_status ON payments.payments (status, created_at, id);

CREATE TABLE payments.payment_transactions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    payment_id uuid NOT NULL REFERENCES payments.payments (id),
    transaction_type varchar(50) NOT NULL,
    amount numeric(10, 2) NOT NULL,
    currency varchar(3) NOT NULL,
    from_status varchar(50),
    status varchar(50) NOT NULL,
    reason text,
    -- Who did it; null where no person did (an actor, the PSP's answer).
    actor_id uuid REFERENCES auth.users (id),
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX payment_transactions_payment_id ON payments.payment_transactions (payment_id, created_at, id);
CREATE INDEX payment_transactions_created_at ON payments.payment_transactions (created_at, id);
