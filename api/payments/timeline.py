"""GET /payments/:id/timeline: everything about one payment on one clock, and what is still to come."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from falcon import Request
from pydantic import MISSING, Field

from actors import mail, payment_endings, payment_jobs, payment_reconciliation
from actors.payment_reconciliation import BEGIN_LOST_AFTER
from api.http.operation import Operation
from api.middleware import authentication
from api.payments import timeline_titles, visibility
from api.security.permissions import Permission
from db import config, payment_timeline
from db.core import times
from db.core.json_model import JsonModel, Timestamp
from db.job_journal import id_for_key
from db.payment_timeline import RECONCILE, TimelineRow
from db.payments_in_progress import STUCK_AFTER
from db.shown_payments import ShownPayment
from db.states import PaymentStatus, PaymentType

# Of each kind, the newest so many items are shown.
ITEMS_OF_A_KIND = 100


class TimelineKind(StrEnum):
    """What a timeline consists of."""

    TRANSITION = "transition"
    PSP_CALL = "pspCall"
    EVENT = "event"
    AUDIT = "audit"
    MAIL = "mail"
    JOB = "job"


class TimelineItem(JsonModel):
    """One thing that happened to a payment, or is still to come (`due`).

    `title` is a sentence for people; programs read `data`, whose members depend on `kind`:

    * `transition`: `transition`, `from`, `to`, `reason`
    * `pspCall`: `operation`, `idempotencyKey`, `outcome`, `code`, `endedAt`; the last three are null while
      the call is under way
    * `event`: `id`, `seq`, `type`, `version` (of the payment), `requestId`, `published`
    * `audit`: `id`, `seq`, `action`, `userId`, `requestId`, `details`
    * `mail`: `to` (`payer` or `payee`), `rejected`
    * `job`: `id`, `name`, `queue`, `state` (`waiting`, `running`, `failed`, `dead`), `attempts`, `error`,
      `requestId`. A periodic job has its `name` alone. For others than administrators it is empty.
    """

    at: Timestamp
    kind: TimelineKind
    title: Annotated[str, Field(examples=["The PSP charged the payment"])]
    data: Annotated[dict[str, Any], Field(examples=[{"transition": "begin", "from": "pending"}])]
    due: Literal[True] | MISSING = MISSING


class Timeline(JsonModel):
    """What happened to a payment, oldest first, then what is still to come.

    There are at most 100 items of each kind, the newest. `omitted` names the kinds of which there are older
    ones.
    """

    items: Annotated[list[TimelineItem], Field(max_length=ITEMS_OF_A_KIND * len(TimelineKind) + 2)]
    omitted: Annotated[list[TimelineKind], Field(max_length=len(TimelineKind), examples=[[]])]


class Timelines:
    """The route of the timeline."""

    @Operation(Permission.SEE_PAYMENTS, "Timeline.", etag=True)
    def get_payment_timeline(self, req: Request, payment_id: UUID) -> Timeline:
        """Get the timeline of a payment.

        Returns everything that happened to a payment or a payment request of yours, oldest first, and what is
        still to come. Administrators see the calls of the payment provider, events, audit entries, mails and
        jobs too; others see the changes of the status, and of what is still to come only when.
        """
        caller = authentication.caller_of(req)
        payment = visibility.get_own(payment_id, caller)
        sees_all = caller.may(Permission.OPERATE)
        rows = payment_timeline.find(
            payment.id,
            everything=sees_all,
            count=ITEMS_OF_A_KIND + 1,
            job_ids=_job_ids(payment.id),
            job_names=[payment_endings.cancel.name, payment_endings.fail.name],
        )
        rows_of = {kind: [row for row in rows if row.kind == kind] for kind in [*TimelineKind, RECONCILE]}
        shown = [row for found in rows_of.values() for row in reversed(found[:ITEMS_OF_A_KIND])]
        items = sorted([*(_item(row, payment) for row in shown), *_expiry(payment)], key=lambda item: item.at)
        happened = [item for item in items if item.due is not True]
        to_come = [item if sees_all else _neutral(item) for item in items if item.due is True]
        # What is overdue comes after what happened meanwhile, at the same time.
        latest = happened[-1].at
        return Timeline(
            items=[*happened, *(item.model_copy(update={"at": max(item.at, latest)}) for item in to_come)],
            omitted=[kind for kind in TimelineKind if len(rows_of[kind]) > ITEMS_OF_A_KIND],
        )


def _job_ids(payment_id: UUID) -> list[UUID]:
    """Returns the ids that jobs about a payment have where these are derived from the payment's."""
    of_payment = (payment_jobs.begin, payment_jobs.charge, payment_jobs.resolve, payment_jobs.inquire)
    mails = [mail.notice_job(payment_id, to_payee=to_payee).id for to_payee in (False, True)]
    return [*(id_for_key(job.name, str(payment_id)) for job in of_payment), *mails]


def _item(row: TimelineRow, payment: ShownPayment) -> TimelineItem:
    if row.kind == RECONCILE:
        waits_for = STUCK_AFTER if payment.status == PaymentStatus.PROCESSING else BEGIN_LOST_AFTER
        return _periodic(
            payment_reconciliation.reconcile.name,
            max(row.at, payment.updated_at + waits_for),
            timeline_titles.RECONCILES,
        )
    data = dict(row.data)
    if row.kind == TimelineKind.PSP_CALL:
        data["endedAt"] = times.iso(row.until) if row.until else None
    return TimelineItem(
        at=row.at,
        kind=TimelineKind(row.kind),
        title=timeline_titles.of(row.kind, data, payment.type),
        data=data,
        due=True if row.kind == TimelineKind.JOB and data["state"] != "dead" else MISSING,
    )


def _expiry(payment: ShownPayment) -> list[TimelineItem]:
    """Returns when a request that can be paid expires."""
    if payment.type != PaymentType.INITIATE or payment.status != PaymentStatus.INITIATED:
        return []
    hours = float(config.number(config.ConfigKey.PAYMENTS_REQUEST_TTL_HOURS))
    expires_at = payment.created_at + timedelta(hours=hours)
    return [_periodic(payment_endings.expire_requests.name, expires_at, timeline_titles.EXPIRES)]


def _periodic(name: str, at: datetime, title: str) -> TimelineItem:
    """Returns the item of what a periodic job will do."""
    return TimelineItem(at=at, kind=TimelineKind.JOB, title=title, data={"name": name}, due=True)


def _neutral(item: TimelineItem) -> TimelineItem:
    """Returns of what is to come only when it is."""
    return item.model_copy(update={"title": timeline_titles.STILL_TO_COME, "data": {}})
