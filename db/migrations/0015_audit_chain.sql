-- The audit log is only ever added to, and its rows are chained: each one's hash is over the hash before it and
-- every column of its own. The writer and the verification have the same expression in db/chain.py, and not in
-- a function: whoever could replace that function would decide what is found.

ALTER TABLE admin.audit_logs
    -- Its place in the chain. Null only in a row that somebody inserted behind the application's back.
    ADD COLUMN seq bigint UNIQUE,
    ADD COLUMN hash bytea CHECK (octet_length(hash) = 32);
CREATE INDEX audit_logs_resource_type ON admin.audit_logs (resource_type, created_at, id);

-- The head of the chain: without it nobody would miss the newest row. One row, from the first day on.
CREATE TABLE admin.audit_seal (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    seq bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    sealed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Chains rows, as a window function in their order; `previous` is the hash before the first of them.
CREATE FUNCTION admin.audit_link(state bytea, previous bytea, line bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN sha256(coalesce(state, previous) || line);
CREATE AGGREGATE admin.audit_chain(previous bytea, line bytea) (SFUNC = admin.audit_link, STYPE = bytea);

-- What was written before today is believed, and sealed as it is.
WITH placed AS (
    SELECT *, row_number() OVER (ORDER BY created_at, id) AS place FROM admin.audit_logs
), chained AS (
    SELECT id, place, admin.audit_chain(
        decode(repeat('00', 32), 'hex'),
        convert_to(jsonb_build_array(
            place, id, user_id, action, resource_type, resource_id, details, ip_address, user_agent, request_id,
            extract(epoch FROM created_at AT TIME ZONE 'UTC')
        )::text, 'UTF8')
    ) OVER (ORDER BY place) AS hash
    FROM placed
)
UPDATE admin.audit_logs AS log SET seq = chained.place, hash = chained.hash
    FROM chained WHERE chained.id = log.id;

INSERT INTO admin.audit_seal (seq, hash)
    SELECT coalesce(max(seq), 0),
           coalesce((array_agg(hash ORDER BY seq DESC))[1], decode(repeat('00', 32), 'hex'))
    FROM (SELECT seq, hash FROM admin.audit_logs ORDER BY seq DESC LIMIT 1) AS newest;

-- A trigger, because a REVOKE says nothing to the owner of a table, and the application owns its tables where
-- it migrates them itself. Where it has a role of its own: docs/security.md says what to grant.
CREATE FUNCTION admin.refuse_to_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is only ever added to: % is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER audit_logs_are_only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON admin.audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION admin.refuse_to_rewrite();
CREATE TRIGGER audit_seal_stays BEFORE DELETE OR TRUNCATE ON admin.audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION admin.refuse_to_rewrite();
CREATE TRIGGER audit_seal_moves_forward BEFORE UPDATE ON admin.audit_seal
    FOR EACH ROW WHEN (NEW.seq <= OLD.seq) EXECUTE FUNCTION admin.refuse_to_rewrite();
