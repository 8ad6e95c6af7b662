-- How far the event log is published, in one row instead of in each event, which is now written once. The row is a lease
-- too: what one process publishes, no other publishes at the same time.

CREATE TABLE admin.event_publication (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    -- The number of the last published event.
    seq bigint NOT NULL,
    generation bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

-- From the first unpublished event on. Later ones may have been published, and are published twice.
INSERT INTO admin.event_publication (seq)
    SELECT coalesce(min(seq) FILTER (WHERE published_at IS NULL) - 1, max(seq), 0) FROM admin.events;

-- Drops the index events_unpublished, too.
ALTER TABLE admin.events DROP COLUMN published_at;
DELETE FROM journal.leases WHERE name = 'events.publish';
