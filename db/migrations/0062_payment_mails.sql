-- A mail about the end of a payment is to its payer or to its payee, and no longer to a user by id.

UPDATE journal.jobs AS job
SET args = jsonb_build_object('payment_id', payment.id, 'to_payee', payment.payee_id::text IS NOT DISTINCT FROM job.args ->> 'user_id')
FROM payments.payments AS payment
WHERE job.name = 'mail.notify_payment_ended' AND payment.id::text = job.args ->> 'payment_id';
