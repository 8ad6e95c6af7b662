-- Payments are begun, settled and resolved many at a time: one message in Redis serves all jobs of a name, so none of
-- them has a message of its own (sent_at). A decision of the PSP is one argument.
UPDATE journal.jobs SET sent_at = 'infinity'
WHERE name IN ('payments.begin', 'payments.settle', 'payments.resolve') AND sent_at > '-infinity';

UPDATE journal.jobs SET args = args - '{outcome,code,amount,currency}'::text[] || jsonb_build_object('answer',
    jsonb_build_object('outcome', args -> 'outcome', 'code', args -> 'code', 'amount', args -> 'amount',
        'currency', args -> 'currency'))
WHERE name = 'payments.settle' AND NOT args ? 'answer';
