-- The audit entries and events of one transaction are one job, `records.append`. Those that wait become one job each.

UPDATE journal.jobs AS job
SET name = 'records.append', args = jsonb_build_object(
    'audit_entries', CASE job.name WHEN 'audit.write' THEN jsonb_build_array(record) ELSE '[]' END,
    'events', CASE job.name WHEN 'events.append' THEN jsonb_build_array(record) ELSE '[]' END)
FROM (SELECT id, args || jsonb_build_object('id', id, 'request_id', request_id) AS record FROM journal.jobs) AS old
WHERE old.id = job.id AND job.name IN ('audit.write', 'events.append');
