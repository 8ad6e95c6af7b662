-- When a scheduled job last ran to its end, beside when it was last enqueued: a job that waits or fails shows.
ALTER TABLE admin.job_runs ADD COLUMN ended_at timestamptz;
