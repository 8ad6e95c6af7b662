-- What the law (actors/lifecycle.py) refuses, the database refuses too, whoever asks. A test walks every pair.

CREATE FUNCTION payments.refuse_illegal_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.type, OLD.status, NEW.status) NOT IN (
        ('payment', 'pending', 'processing'),
        ('payment', 'pending', 'cancelled'),
        ('payment', 'processing', 'completed'),
        ('payment', 'processing', 'failed'),
        ('initiate', 'pending', 'initiated'),
        ('initiate', 'pending', 'cancelled'),
        ('initiate', 'initiated', 'processing'),
        ('initiate', 'initiated', 'failed'),
        ('initiate', 'initiated', 'cancelled'),
        ('initiate', 'processing', 'completed'),
        ('initiate', 'processing', 'initiated')
    ) THEN
        RAISE EXCEPTION 'the law knows no way for a % from % to %', NEW.type, OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER payments_obey_the_law BEFORE UPDATE ON payments.payments
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.type IS DISTINCT FROM NEW.type)
    EXECUTE FUNCTION payments.refuse_illegal_status();
