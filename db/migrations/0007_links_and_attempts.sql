-- One-time links that are mailed, and the failures to sign in that slow an account down.

CREATE TABLE auth.one_time_tokens (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    purpose varchar(50) NOT NULL CHECK (purpose IN ('verify-email', 'reset-password')),
    -- The SHA-256 of the token, in hex.
    token varchar(64) NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX one_time_tokens_user_id ON auth.one_time_tokens (user_id);
CREATE INDEX one_time_tokens_expires_at ON auth.one_time_tokens (expires_at);

-- By address and not by user: who has no account must be slowed down alike, or the difference would tell.
CREATE TABLE auth.sign_in_failures (
    -- The SHA-256 of the address in lower case, in hex.
    address varchar(64) PRIMARY KEY,
    failures integer NOT NULL,
    failed_at timestamptz NOT NULL
);
CREATE INDEX sign_in_failures_failed_at ON auth.sign_in_failures (failed_at);
