-- Plain names and messages for what 0043 left. Renames only: no row of a large table is rewritten.

ALTER FUNCTION admin.refuse_to_rewrite() RENAME TO refuse_change;
CREATE OR REPLACE FUNCTION admin.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only: % is not allowed', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
ALTER TRIGGER audit_logs_are_only_added_to ON admin.audit_logs RENAME TO audit_logs_append_only;
ALTER TRIGGER audit_seal_stays ON admin.audit_seal RENAME TO audit_seal_not_deleted;
ALTER TRIGGER audit_seal_moves_forward ON admin.audit_seal RENAME TO audit_seal_only_advances;
ALTER TRIGGER payment_transactions_are_only_added_to ON payments.payment_transactions
    RENAME TO payment_transactions_not_deleted;
ALTER TRIGGER payment_transactions_stay_as_they_are ON payments.payment_transactions
    RENAME TO payment_transactions_append_only;

ALTER FUNCTION payments.refuse_other_terms() RENAME TO refuse_change_of_terms;
CREATE OR REPLACE FUNCTION payments.refuse_change_of_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the parties, amount and currency of a payment of type % and status % cannot be changed',
        OLD.type, OLD.status USING ERRCODE = 'check_violation';
END $$;
ALTER TRIGGER payments_keep_their_people ON payments.payments RENAME TO payments_fixed_parties;
ALTER TRIGGER payments_keep_their_money ON payments.payments RENAME TO payments_fixed_amount;
ALTER TRIGGER payments_change_by_legal_transitions ON payments.payments RENAME TO payments_legal_transition;
ALTER TRIGGER payments_begin_by_a_legal_transition ON payments.payments RENAME TO payments_legal_first_status;
CREATE OR REPLACE FUNCTION payments.refuse_illegal_transition() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before text := NULL;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        before := OLD.status;
        IF OLD.type <> NEW.type THEN
            RAISE EXCEPTION 'the type of a payment cannot be changed from % to %', OLD.type, NEW.type
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    IF NOT payments.is_legal_transition(NEW.type, before, NEW.status) THEN
        RAISE EXCEPTION 'a payment of type % cannot change from status % to status %',
            NEW.type, coalesce(before, 'none'), NEW.status USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

ALTER INDEX payments.payments_unbound RENAME TO payments_without_addressee;

ALTER TABLE auth.refresh_tokens RENAME COLUMN token TO token_hash;
ALTER TABLE auth.one_time_tokens RENAME COLUMN token TO token_hash;
ALTER TABLE auth.one_time_tokens RENAME COLUMN address TO address_hash;
ALTER TABLE auth.refusals RENAME COLUMN times TO count;
ALTER TABLE payments.idempotency_keys RENAME COLUMN request TO request_hash;
ALTER TABLE admin.audit_verifications RENAME COLUMN moved_at TO updated_at;

-- Invariants have other names from here on, and are checked again within a minute.
DELETE FROM admin.invariants;
