-- What is cancelled when a vendor may not be paid any more: few rows beside all that the vendor ever made.
CREATE INDEX payments_open_by_vendor ON payments.payments (user_id, id)
    WHERE type = 'initiate' AND status IN ('pending', 'initiated');
