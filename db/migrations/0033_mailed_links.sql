-- A link knows the address that it was mailed to, and the letters of one purpose are spread over the hour.

ALTER TABLE auth.one_time_tokens
    -- SHA-256 of the address in lower case, in hex; NULL for links of before this migration. The link that verified
    -- an address is no error as long as that is the account's verified one.
    ADD COLUMN address varchar(64),
    -- When its letter leaves: later than created_at where others have left just before.
    ADD COLUMN due_at timestamptz NOT NULL DEFAULT clock_timestamp();
UPDATE auth.one_time_tokens SET due_at = created_at;

-- What is refused again and again is counted, so that nobody floods the audit log: one row at once, and one for the
-- rest of the minute.
CREATE TABLE auth.refusals (
    action varchar(50) NOT NULL,
    -- A user's id, or a keyed digest of an address that nobody has.
    account varchar(64) NOT NULL,
    minute timestamptz NOT NULL,
    times integer NOT NULL,
    PRIMARY KEY (action, account, minute)
);
CREATE INDEX refusals_minute ON auth.refusals (minute);
