-- Operators list jobs newest first, by state: a million jobs that wait do not precede those that failed or are dead.
-- Neither index costs a job an entry that is done at its first attempt.
DROP INDEX journal.jobs_dead;
CREATE INDEX jobs_dead ON journal.jobs (name, position) WHERE dead_at IS NOT NULL;
CREATE INDEX jobs_failed ON journal.jobs (name, position) WHERE error IS NOT NULL AND dead_at IS NULL;

-- The list of missed events is newest first; the id tells events of one moment apart.
ALTER TABLE admin.missed_events ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid();
CREATE INDEX missed_events_given_up_at ON admin.missed_events (given_up_at, id);
