-- To lease a job, or to note that a message was sent for the first jobs of a batch, changes leased_until. No index has
-- it any more, neither as a column nor in its condition, so that the change is made within the row's page (HOT).
DROP INDEX journal.jobs_due;
CREATE INDEX jobs_due ON journal.jobs (queue, due_at) WHERE sent_at = '-infinity' AND dead_at IS NULL;
DROP INDEX journal.jobs_leasable;
CREATE INDEX jobs_leasable ON journal.jobs (name, share, position)
    WHERE share IS NOT NULL AND sent_at = 'infinity' AND dead_at IS NULL;
-- That needs room in the page for a second version of most rows. The table is as small as what waits.
ALTER TABLE journal.jobs SET (fillfactor = 50);
