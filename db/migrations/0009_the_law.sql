-- No status changes but by a step of the law (actors/lifecycle.py), whoever asks. A test walks every pair.

CREATE FUNCTION payments.is_lawful(type text, before text, after text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT (type, coalesce(before, ''), after) IN (
        ('payment', '', 'pending'),
        ('payment', 'pending', 'processing'),
        ('payment', 'pending', 'cancelled'),
        ('payment', 'processing', 'completed'),
        ('payment', 'processing', 'failed'),
        ('initiate', '', 'pending'),
        ('initiate', 'pending', 'initiated'),
        ('initiate', 'pending', 'cancelled'),
        ('initiate', 'initiated', 'processing'),
        ('initiate', 'initiated', 'failed'),
        ('initiate', 'initiated', 'cancelled'),
        ('initiate', 'processing', 'completed'),
        ('initiate', 'processing', 'initiated')
    )
$$;

CREATE FUNCTION payments.refuse_illegal_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.type <> NEW.type OR NOT payments.is_lawful(NEW.type, OLD.status, NEW.status) THEN
        RAISE EXCEPTION 'the law knows no way for a % from % to %', OLD.type, OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER payments_obey_the_law BEFORE UPDATE ON payments.payments
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.type IS DISTINCT FROM NEW.type)
    EXECUTE FUNCTION payments.refuse_illegal_status();
