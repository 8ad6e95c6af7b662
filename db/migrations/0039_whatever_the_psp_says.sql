-- What the PSP says need not fit our own money: it is kept as it said it, or it would be dropped for its size.
-- None of these rewrites a row.

ALTER TABLE payments.psp_attempts
    ALTER COLUMN amount TYPE numeric,
    ALTER COLUMN currency TYPE text;
ALTER TABLE payments.statement_lines
    ALTER COLUMN id TYPE text,
    ALTER COLUMN reference TYPE text,
    ALTER COLUMN amount TYPE numeric,
    ALTER COLUMN currency TYPE text;
