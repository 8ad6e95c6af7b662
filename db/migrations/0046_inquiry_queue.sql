-- The queue of inquiries is named after them. As with 0043, stop all processes of the release before first: they
-- would not find these jobs.

UPDATE journal.jobs SET queue = 'psp-inquiries' WHERE queue = 'psp-questions';
