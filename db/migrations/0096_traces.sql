-- The W3C trace context of the request behind a job or an event, where it does not follow from the request's id.
ALTER TABLE journal.jobs ADD COLUMN trace varchar(600);
ALTER TABLE admin.events ADD COLUMN trace varchar(600);
