"""Mails about the end of a payment: what each says, to whom, and which were sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from db import postgres


@dataclass(frozen=True)
class PaymentMail:
    """A payment that ended, and the user to notify: the payee, or else the payer."""

    payment_id: UUID
    to_payee: bool
    user_id: UUID
    email: str
    name: str
    email_verified: bool
    status: str
    amount: Decimal
    currency: str
    description: str | None
    failure_message: str | None


# A user wants a notification unless the preferences say no.
FIND = """
    SELECT mail.payment_id, mail.to_payee, u.id AS user_id, u.email, u.name, u.email_verified,
        p.status, p.amount, p.currency, p.description, p.failure_message
    FROM unnest(%s::uuid[], %s::boolean[]) AS mail (payment_id, to_payee)
    JOIN payments.payments p ON p.id = mail.payment_id
    JOIN auth.users u ON u.id = CASE WHEN mail.to_payee THEN p.payee_id ELSE p.user_id END
    LEFT JOIN profile.user_profiles f ON f.user_id = u.id
    WHERE u.active AND 'false' IS DISTINCT FROM f.preferences #> ARRAY['notifications',
        CASE p.status WHEN 'completed' THEN 'paymentCompleted' ELSE 'paymentFailed' END]
"""

# Skips a mail that is recorded already: two workers have had its job. NOT EXISTS instead of ON CONFLICT,
# which would write to each row once more. If two workers record a mail at the same moment, one of them fails,
# and tries again.
RECORD = """
    INSERT INTO payments.payment_mails (payment_id, to_payee, rejected)
    SELECT * FROM unnest(%s::uuid[], %s::boolean[], %s::boolean[]) AS ended (payment_id, to_payee, rejected)
    WHERE NOT EXISTS (SELECT FROM payments.payment_mails AS recorded
        WHERE recorded.payment_id = ended.payment_id AND recorded.to_payee = ended.to_payee)
    ORDER BY payment_id, to_payee
"""


def find(wanted: Sequence[tuple[UUID, bool]]) -> dict[tuple[UUID, bool], PaymentMail]:
    """Returns the mails to send, by payment id and whether the mail is to the payee.

    Leaves out closed accounts, users who have opted out, and the payees of payments without a payee.
    """
    payment_ids, to_payee = [id for id, _ in wanted], [is_payee for _, is_payee in wanted]
    mails = [PaymentMail(**row) for row in postgres.rows(FIND, payment_ids, to_payee)]
    return {(mail.payment_id, mail.to_payee): mail for mail in mails}


def record(ended: Sequence[tuple[PaymentMail, bool]]) -> None:
    """Records mails, each with whether the mail server has accepted it; if not, it never will."""
    mails = [mail for mail, _ in ended]
    postgres.rows(
        RECORD,
        [mail.payment_id for mail in mails],
        [mail.to_payee for mail in mails],
        [not accepted for _, accepted in ended],
    )
