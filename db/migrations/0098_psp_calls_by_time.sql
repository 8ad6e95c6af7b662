-- The calls of the last hour, for the board. A BRIN index has one entry for each megabyte of the table, and is not
-- written with each row.
CREATE INDEX psp_attempts_created_at ON payments.psp_attempts USING brin (created_at) WITH (autosummarize = on);
