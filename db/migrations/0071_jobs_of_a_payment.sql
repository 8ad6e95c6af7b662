-- Only an invariant asked whether a payment still has a job, once a minute and for a few payments: it reads the journal
-- then, instead of six entries in an index for each payment.
DROP INDEX journal.jobs_payment;
