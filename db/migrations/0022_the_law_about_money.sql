-- The law holds from the first row on, and money is as fixed as status: what was asked for, by whom and of whom
-- never changes, but for the terms of a request that nobody is paying yet; the history is only ever added to.

CREATE TRIGGER payments_begin_lawfully BEFORE INSERT ON payments.payments
    FOR EACH ROW WHEN (NEW.status IS DISTINCT FROM 'pending')
    EXECUTE FUNCTION payments.refuse_illegal_status();

-- On INSERT there is no OLD: the same function, for both.
CREATE OR REPLACE FUNCTION payments.refuse_illegal_status() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before text := NULL;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        before := OLD.status;
        IF OLD.type <> NEW.type THEN
            RAISE EXCEPTION 'a % never becomes a %', OLD.type, NEW.type USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    IF NOT payments.is_lawful(NEW.type, before, NEW.status) THEN
        RAISE EXCEPTION 'the law knows no way for a % from % to %', NEW.type, coalesce(before, 'nothing'), NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION payments.refuse_other_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the terms of a % that is % are fixed', OLD.type, OLD.status USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER payments_keep_their_people BEFORE UPDATE ON payments.payments
    FOR EACH ROW WHEN (
        (OLD.id, OLD.user_id, OLD.request_id, OLD.payee_id)
            IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.request_id, NEW.payee_id))
    EXECUTE FUNCTION payments.refuse_other_terms();
CREATE TRIGGER payments_keep_their_money BEFORE UPDATE ON payments.payments
    FOR EACH ROW WHEN (
        (OLD.amount, OLD.currency) IS DISTINCT FROM (NEW.amount, NEW.currency)
        AND NOT (OLD.type = 'initiate' AND OLD.status IN ('pending', 'initiated') AND NEW.status = OLD.status))
    EXECUTE FUNCTION payments.refuse_other_terms();

CREATE TRIGGER payment_transactions_are_only_added_to
    BEFORE DELETE OR TRUNCATE ON payments.payment_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION admin.refuse_to_rewrite();
-- But whose page a change is on: it follows a customer who proves the address of a request.
CREATE TRIGGER payment_transactions_stay_as_they_are BEFORE UPDATE ON payments.payment_transactions
    FOR EACH ROW WHEN (to_jsonb(OLD) - 'addressee_id' IS DISTINCT FROM to_jsonb(NEW) - 'addressee_id')
    EXECUTE FUNCTION admin.refuse_to_rewrite();

-- No more decimals than the currency has. The list is that of db/money.py: a test holds both together.
ALTER TABLE payments.payments ADD CONSTRAINT payments_amount_fits_its_currency CHECK (amount = trunc(amount)
    OR currency NOT IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND',
        'VUV', 'XAF', 'XOF', 'XPF'));
