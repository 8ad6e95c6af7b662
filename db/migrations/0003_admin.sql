-- What operators look at: the audit log, the event log, the configuration.

CREATE SCHEMA admin;

CREATE TABLE admin.audit_logs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid REFERENCES auth.users (id),
    action varchar(100) NOT NULL,
    resource_type varchar(50),
    resource_id uuid,
    details jsonb NOT NULL DEFAULT '{}'::jsonb,
    ip_address varchar(45),
    user_agent text,
    request_id varchar(128),
    created_at timestamptz NOT NULL
);
CREATE INDEX audit_logs_created_at ON admin.audit_logs (created_at, id);
CREATE INDEX audit_logs_user_id ON admin.audit_logs (user_id, created_at, id);
CREATE INDEX audit_logs_action ON admin.audit_logs (action, created_at, id);
CREATE INDEX audit_logs_resource_id ON admin.audit_logs (resource_id, created_at, id);

CREATE TABLE admin.events (
    id uuid PRIMARY KEY,
    -- Given by one writer under a lock, in the order of publication: no gaps, no sequence.
    seq bigint NOT NULL UNIQUE,
    type varchar(100) NOT NULL,
    data jsonb NOT NULL,
    request_id varchar(128),
    occurred_at timestamptz NOT NULL,
    published_at timestamptz
);
CREATE INDEX events_unpublished ON admin.events (seq) WHERE published_at IS NULL;

CREATE TABLE admin.system_config (
    key varchar(100) PRIMARY KEY,
    value jsonb NOT NULL,
    description text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_by uuid REFERENCES auth.users (id)
);
