-- A page of one currency is a walk along an index, also of a currency that few payments have.
CREATE INDEX payments_currency ON payments.payments (currency, created_at, id);
