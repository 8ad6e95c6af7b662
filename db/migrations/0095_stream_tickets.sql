-- A ticket opens one stream of events. It is a one-time token that no mail carries.
ALTER TABLE auth.one_time_tokens
    DROP CONSTRAINT one_time_tokens_purpose_check,
    ADD CONSTRAINT one_time_tokens_purpose_check
        CHECK (purpose IN ('verify-email', 'reset-password', 'open-stream'));
