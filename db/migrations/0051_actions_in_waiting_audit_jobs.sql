-- Audit entries that wait in the journal carry an action of the release before. Its new name is the only one that
-- `audit.write` accepts, so the entry would never be written. Entries in the log keep their action: the log is
-- append-only, and the filter of GET /api/admin/audit-logs finds both names.

UPDATE journal.jobs SET args = jsonb_set(args, '{action}', to_jsonb(renamed.after))
FROM (VALUES
    ('auth.password.forgotten', 'auth.password.reset_requested'),
    ('auth.email.verification_asked', 'auth.email.verification_requested'),
    ('payments.step.refused', 'payments.transition.refused'),
    ('payments.psp.decided', 'payments.psp.already_decided')
) AS renamed (before, after)
WHERE name = 'audit.write' AND args ->> 'action' = renamed.before;
