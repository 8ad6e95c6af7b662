-- The descriptions of settings are those of the code (db/config.py).
ALTER TABLE admin.system_config DROP COLUMN description;

-- When a scheduled job was last enqueued: one write for each run of each job. That a run is late shows in the time of
-- the last end, and in the job that waits.
ALTER TABLE admin.job_runs DROP COLUMN enqueued_at;
