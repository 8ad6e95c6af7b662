-- Who may come in: people, their sessions, the refresh tokens of a session.

CREATE SCHEMA auth;

CREATE TABLE auth.users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email varchar(255) NOT NULL,
    password_hash varchar(255) NOT NULL,
    name varchar(255) NOT NULL,
    role varchar(50) NOT NULL CHECK (role IN ('ADMIN', 'CUSTOMER', 'VENDOR')),
    email_verified boolean NOT NULL DEFAULT false,
    -- A closed account keeps its row: payments and audit rows go on pointing at it.
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- An address belongs to one person, however it is capitalised.
CREATE UNIQUE INDEX users_email ON auth.users (lower(email));
CREATE INDEX users_role ON auth.users (role);

-- A session is one sign-in, and the family of refresh tokens that grew from it.
CREATE TABLE auth.sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    ip_address varchar(45),
    user_agent text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz
);
CREATE INDEX sessions_user_id ON auth.sessions (user_id);

CREATE TABLE auth.refresh_tokens (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    session_id uuid NOT NULL REFERENCES auth.sessions (id) ON DELETE CASCADE,
    -- The SHA-256 of the token, in hex; the token itself is never stored.
    token varchar(255) NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL,
    spent_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX refresh_tokens_user_id ON auth.refresh_tokens (user_id);
CREATE INDEX refresh_tokens_session_id ON auth.refresh_tokens (session_id);
CREATE INDEX refresh_tokens_expires_at ON auth.refresh_tokens (expires_at);
