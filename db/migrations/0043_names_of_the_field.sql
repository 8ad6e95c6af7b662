-- The words of docs/glossary.md replace the names that Paywright made up. Renames only: no row of a large table
-- is rewritten. Processes of the release before this one do not run on the result: stop them all first.

ALTER TABLE journal.tasks RENAME TO jobs;
ALTER TABLE journal.jobs RENAME COLUMN verb TO name;
ALTER INDEX journal.tasks_pkey RENAME TO jobs_pkey;
ALTER INDEX journal.tasks_begun RENAME TO jobs_begun;
ALTER INDEX journal.tasks_sent RENAME TO jobs_sent;
ALTER INDEX journal.tasks_dead RENAME TO jobs_dead;
ALTER INDEX journal.tasks_payment RENAME TO jobs_payment;
ALTER INDEX journal.tasks_verb RENAME TO jobs_name;
ALTER TABLE admin.job_runs RENAME COLUMN promised_at TO enqueued_at;
ALTER TABLE payments.idempotency_keys RENAME COLUMN to_come TO provisional;

CREATE TEMPORARY TABLE renamed (before text PRIMARY KEY, after text NOT NULL) ON COMMIT DROP;
INSERT INTO renamed VALUES
    ('payments.doubt', 'payments.resolve'),
    ('payments.look', 'payments.inquire'),
    ('mail.ask_to_verify', 'mail.request_verification'),
    ('mail.help_who_forgot', 'mail.request_password_reset'),
    ('mail.tell_old_address', 'mail.notify_old_address'),
    ('mail.tell', 'mail.notify_user'),
    ('mail.tell_of_payment', 'mail.notify_payment_ended'),
    ('events.log', 'events.append'),
    ('events.broadcast', 'events.publish'),
    ('statements.open', 'statements.start'),
    ('statements.book', 'statements.store'),
    ('addressees.bind', 'payments.bind_addressee'),
    ('erasure.erase', 'accounts.erase');
UPDATE journal.jobs SET name = after FROM renamed WHERE name = before;
UPDATE admin.job_runs SET name = after FROM renamed WHERE name = before;
UPDATE journal.leases SET name = after FROM renamed WHERE name = before;

-- The cursors of the subscribers keep their places.
UPDATE admin.subscriptions SET name = replace(replace(name, 'hub.letters', 'subscribers.payment_mails'),
    'hub.configuration', 'subscribers.config_cache');
UPDATE admin.missed_events SET name = replace(replace(name, 'hub.letters', 'subscribers.payment_mails'),
    'hub.configuration', 'subscribers.config_cache');

-- They are checked again within a minute, under the names of this release.
DELETE FROM admin.invariants;

ALTER FUNCTION payments.is_lawful(text, text, text) RENAME TO is_legal_transition;
ALTER FUNCTION payments.refuse_illegal_status() RENAME TO refuse_illegal_transition;
ALTER TRIGGER payments_obey_the_law ON payments.payments RENAME TO payments_change_by_legal_transitions;
ALTER TRIGGER payments_begin_lawfully ON payments.payments RENAME TO payments_begin_by_a_legal_transition;
CREATE OR REPLACE FUNCTION payments.refuse_illegal_transition() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before text := NULL;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        before := OLD.status;
        IF OLD.type <> NEW.type THEN
            RAISE EXCEPTION 'a % never becomes a %', OLD.type, NEW.type USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    IF NOT payments.is_legal_transition(NEW.type, before, NEW.status) THEN
        RAISE EXCEPTION 'no transition leads a % from % to %', NEW.type, coalesce(before, 'nothing'), NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
