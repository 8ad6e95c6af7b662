-- The later events of a payment repeat what the first one says, except for the status, the version and a time. The log keeps
-- these differences only (a kilobyte of WAL for each payment). The view has the name of the table and shows each event in
-- full, also to the release before.
ALTER TABLE admin.events RENAME TO event_log;
-- The number of the event whose request this one has, too, and whose data its own is merged into. Null for an event that
-- is stored in full.
ALTER TABLE admin.event_log ADD COLUMN base bigint;
CREATE INDEX events_base ON admin.event_log (base) WHERE base IS NOT NULL;
DROP INDEX admin.events_about;
CREATE INDEX events_about ON admin.event_log ((data ->> 'id')) WHERE base IS NULL;

-- Subqueries, no join: a search for the last number reads one entry of the index.
CREATE VIEW admin.events AS
    SELECT seq, id, type,
        CASE WHEN base IS NULL THEN data
            ELSE (SELECT b.data FROM admin.event_log AS b WHERE b.seq = log.base) || data END AS data,
        CASE WHEN base IS NULL THEN request_id
            ELSE (SELECT b.request_id FROM admin.event_log AS b WHERE b.seq = log.base) END AS request_id,
        CASE WHEN base IS NULL THEN trace
            ELSE (SELECT b.trace FROM admin.event_log AS b WHERE b.seq = log.base) END AS trace,
        occurred_at
    FROM admin.event_log AS log;

-- The events that later ones about these payments can be differences from. The planner must not read the whole log because
-- it was small when the plan was made.
CREATE FUNCTION admin.first_events(payment_ids text[]) RETURNS SETOF admin.event_log
    LANGUAGE sql STABLE SET enable_seqscan = off AS $$
    SELECT DISTINCT ON (data ->> 'id') * FROM admin.event_log
    WHERE data ->> 'id' = ANY(payment_ids) AND base IS NULL AND type = 'payments:payment:created'
    ORDER BY data ->> 'id', seq
$$;

-- The numbers of the events about a payment or a user.
CREATE FUNCTION admin.events_about(about text) RETURNS SETOF bigint
    LANGUAGE sql STABLE ROWS 10 SET enable_seqscan = off AS $$
    WITH complete AS MATERIALIZED (SELECT seq FROM admin.event_log WHERE data ->> 'id' = about AND base IS NULL)
    SELECT seq FROM complete
    UNION ALL SELECT log.seq FROM complete JOIN admin.event_log AS log ON log.base = complete.seq
$$;

-- The release before appends to the view.
CREATE FUNCTION admin.append_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO admin.event_log (seq, id, type, data, request_id, trace, occurred_at)
        VALUES (NEW.seq, NEW.id, NEW.type, NEW.data, NEW.request_id, NEW.trace, NEW.occurred_at);
    RETURN NEW;
END $$;
CREATE TRIGGER events_append INSTEAD OF INSERT ON admin.events FOR EACH ROW EXECUTE FUNCTION admin.append_event();
