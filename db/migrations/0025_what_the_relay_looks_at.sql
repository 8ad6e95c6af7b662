-- The relay looks twice a second, and must find what it is for however much waits: what was begun or has never been
-- sent is due by its time; what was sent and not begun is lost if it was sent before the oldest message that waits.
-- One index for each, in that order; a queue that only waits is at the end of the second. sent_at is -infinity for
-- what no message was sent for, and infinity where one message does for many jobs.
DROP INDEX journal.tasks_due_at;
CREATE INDEX tasks_begun ON journal.tasks (queue, due_at)
    WHERE dead_at IS NULL AND (error IS NOT NULL OR leased_until IS NOT NULL OR sent_at = '-infinity');
CREATE INDEX tasks_sent ON journal.tasks (queue, sent_at)
    WHERE dead_at IS NULL AND error IS NULL AND leased_until IS NULL
        AND sent_at > '-infinity' AND sent_at < 'infinity';
