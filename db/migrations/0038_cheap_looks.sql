-- The jobs of one payment, without reading the journal: asked for each payment that seems forgotten.
CREATE INDEX tasks_payment ON journal.tasks ((args ->> 'payment_id')) WHERE args ->> 'payment_id' IS NOT NULL;
