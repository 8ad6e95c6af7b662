-- Jobs that call the outside are leased in groups, and one message in Redis serves all of a name, as for batch jobs:
-- their sent_at is 'infinity' while they wait for a worker. `share` tells whose jobs may occupy how many threads; it is
-- empty for a job that has no such limit, and null for a job that is never leased.
ALTER TABLE journal.jobs ADD COLUMN share text;

UPDATE journal.jobs SET
    share = CASE WHEN name = 'payments.charge' THEN coalesce(args ->> 'customer_id', 'none') ELSE '' END,
    sent_at = CASE WHEN sent_at = '-infinity' THEN sent_at ELSE 'infinity' END
WHERE name IN ('payments.charge', 'payments.inquire', 'mail.send_link', 'mail.notify_old_address', 'mail.notify_user',
    'mail.notify_payment_ended', 'housekeeping.check_invariant', 'housekeeping.verify_audit_log', 'statements.fetch',
    'events.publish', 'media.discard');

-- No message is on its way for a job that failed: the relay sends one when it is due.
UPDATE journal.jobs SET sent_at = '-infinity' WHERE error IS NOT NULL AND dead_at IS NULL;

-- What the relay sends by its time: delayed and failed jobs, and those whose lease expired.
DROP INDEX journal.jobs_begun;
CREATE INDEX jobs_due ON journal.jobs (queue, due_at)
    WHERE dead_at IS NULL AND (leased_until IS NOT NULL OR sent_at = '-infinity');
-- What the relay sends if its message was lost.
DROP INDEX journal.jobs_sent;
CREATE INDEX jobs_sent ON journal.jobs (queue, sent_at)
    WHERE dead_at IS NULL AND sent_at > '-infinity' AND sent_at < 'infinity';
-- What a worker may lease: the first jobs of each share.
CREATE INDEX jobs_leasable ON journal.jobs (name, share, position)
    WHERE share IS NOT NULL AND sent_at = 'infinity' AND leased_until IS NULL AND dead_at IS NULL;
