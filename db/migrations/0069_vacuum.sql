-- How autovacuum treats the tables that grow with each payment, and those that are as large as what there is to do.
-- The reasons: docs/database.md, "Vacuum".

-- Rows that are written once. By default, a table of 100 million rows is vacuumed after 20 million new ones, and frozen
-- all at once after 200 million transactions.
ALTER TABLE payments.payment_transactions SET (autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 20000, autovacuum_freeze_min_age = 0, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE admin.audit_logs SET (autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 20000, autovacuum_freeze_min_age = 0, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE admin.events SET (autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 20000, autovacuum_freeze_min_age = 0, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE payments.statement_lines SET (autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 20000, autovacuum_freeze_min_age = 0, autovacuum_analyze_scale_factor = 0.02);

-- Rows that are written two or three times within a second, and then never again.
ALTER TABLE payments.payments SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_freeze_min_age = 0, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE payments.psp_attempts SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_freeze_min_age = 0, autovacuum_analyze_scale_factor = 0.02);

-- Small tables with much traffic. Their vacuum must not pause: it would take longer than the next 2,000 rows.
ALTER TABLE journal.jobs SET (autovacuum_vacuum_cost_delay = 0);
ALTER TABLE payments.payments_in_progress SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0);

-- Rows that are updated in place, in columns that no index mentions: room for the new versions.
ALTER TABLE auth.sessions SET (fillfactor = 80);
ALTER TABLE admin.audit_seal SET (fillfactor = 50);
ALTER TABLE admin.subscriptions SET (fillfactor = 50);
ALTER TABLE admin.job_runs SET (fillfactor = 50);
ALTER TABLE journal.leases SET (fillfactor = 50);
