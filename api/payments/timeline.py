"""GET /payments/:id/timeline: everything about one payment on one clock, and what is still to come."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from falcon import Request
from pydantic import MISSING, Field

from actors import mail, payment_endings, payment_jobs, payment_reconciliation
from actors.payment_reconciliation import BEGIN_LOST_AFTER
from actors.state_machine import Transition
from api.http.operation import Operation
from api.middleware import authentication
from api.payments import visibility
from api.security.permissions import Permission
from db import config, payment_timeline
from db.core import times
from db.core.json_model import JsonModel, Timestamp
from db.job_journal import id_for_key
from db.payment_timeline import RECONCILE, TimelineRow
from db.payments_in_progress import STUCK_AFTER
from db.psp_attempts import PspOperation, PspResult
from db.shown_payments import ShownPayment
from db.states import PaymentStatus, PaymentType

# How many items of each kind are shown: the newest.
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


@Operation(Permission.SEE_PAYMENTS, "Timeline.", etag=True)
def get_payment_timeline(req: Request, payment_id: UUID) -> Timeline:
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
    """Returns the ids of those jobs about a payment whose ids are derived from the payment's."""
    of_payment = (payment_jobs.begin, payment_jobs.charge, payment_jobs.resolve, payment_jobs.inquire)
    mails = [mail.notice_job(payment_id, to_payee=to_payee).id for to_payee in (False, True)]
    return [*(id_for_key(job.name, str(payment_id)) for job in of_payment), *mails]


def _item(row: TimelineRow, payment: ShownPayment) -> TimelineItem:
    if row.kind == RECONCILE:
        waits_for = STUCK_AFTER if payment.status == PaymentStatus.PROCESSING else BEGIN_LOST_AFTER
        looks_at = max(row.at, payment.updated_at + waits_for)
        return _periodic(
            payment_reconciliation.reconcile.name, looks_at, "The reconciler looks at the payment"
        )
    data = dict(row.data)
    if row.kind == TimelineKind.PSP_CALL:
        data["endedAt"] = times.iso(row.until) if row.until else None
    return TimelineItem(
        at=row.at,
        kind=TimelineKind(row.kind),
        title=_title(row.kind, data, payment.type),
        data=data,
        due=True if row.kind == TimelineKind.JOB and data["state"] != "dead" else MISSING,
    )


def _expiry(payment: ShownPayment) -> list[TimelineItem]:
    """Returns the item of a request's expiry, in a list that is empty unless the request can be paid."""
    if payment.type != PaymentType.INITIATE or payment.status != PaymentStatus.INITIATED:
        return []
    hours = float(config.number(config.ConfigKey.PAYMENTS_REQUEST_TTL_HOURS))
    expires_at = payment.created_at + timedelta(hours=hours)
    title = "The request expires unless it is paid"
    return [_periodic(payment_endings.expire_requests.name, expires_at, title)]


def _periodic(name: str, at: datetime, title: str) -> TimelineItem:
    """Returns the item of what a periodic job will do."""
    return TimelineItem(at=at, kind=TimelineKind.JOB, title=title, data={"name": name}, due=True)


def _neutral(item: TimelineItem) -> TimelineItem:
    """Returns an item of what is to come that says only when."""
    return item.model_copy(update={"title": "Something is still to come", "data": {}})


_TRANSITIONS: dict[str, dict[str, str]] = {
    PaymentType.PAYMENT: {
        Transition.CREATE: "The payment was created",
        Transition.BEGIN: "The payment began",
        Transition.COMPLETE: "The payment was completed",
        Transition.FAIL: "The payment failed",
        Transition.CANCEL: "The payment was cancelled",
    },
    PaymentType.INITIATE: {
        Transition.CREATE: "The request was created",
        Transition.BEGIN: "The request was opened for payment",
        Transition.ENGAGE: "A customer began to pay the request",
        Transition.COMPLETE: "The request was paid",
        Transition.FAIL: "The request was failed by hand",
        Transition.REOPEN: "The request was opened again",
        Transition.EXPIRE: "The request was not paid in time",
        Transition.CANCEL: "The request was cancelled",
    },
}
_CALLS: dict[str, dict[str | None, str]] = {
    PspOperation.CHARGE: {
        None: "The PSP is called to charge the payment",
        PspResult.CHARGED: "The PSP charged the payment",
        PspResult.DECLINED: "The PSP declined the payment",
        PspResult.UNAVAILABLE: "The PSP was not available for the charge",
        PspResult.NO_ANSWER: "The PSP did not answer the charge",
    },
    PspOperation.FIND: {
        None: "The PSP is asked whether it has charged the payment",
        PspResult.CHARGED: "The PSP confirmed that it had charged the payment",
        PspResult.DECLINED: "The PSP confirmed that it had declined the payment",
        PspResult.NOT_FOUND: "The PSP knows no charge of the payment",
        PspResult.UNAVAILABLE: "The PSP was not available for the inquiry",
        PspResult.NO_ANSWER: "The PSP did not answer the inquiry",
    },
    PspOperation.NOTICE: {
        PspResult.CHARGED: "The PSP sent a notice that it had charged the payment",
        PspResult.DECLINED: "The PSP sent a notice that it had declined the payment",
    },
}
# A job by its name, as the subject of a sentence.
JOBS = {
    payment_jobs.begin.name: "The start of the payment",
    payment_jobs.charge.name: "The charge",
    payment_jobs.settle.name: "The settlement",
    payment_jobs.resolve.name: "The resolution of the unknown outcome",
    payment_jobs.inquire.name: "The inquiry at the PSP",
    payment_endings.cancel.name: "The cancellation",
    payment_endings.fail.name: "The failure by hand",
    mail.notify_payment_ended.name: "The mail about the outcome",
}
_JOB_STATES = {
    "waiting": "is due",
    "running": "is under way",
    "failed": "is tried again",
    "dead": "was given up after {attempts} attempts",
}


def _title(kind: str, data: Mapping[str, Any], payment_type: str) -> str:
    """Returns the title of an item of this kind: a sentence for people, made of its data."""
    match kind:
        case "transition":
            # A later release, before a rollback, may have recorded others.
            known = _TRANSITIONS[payment_type].get(data["transition"])
            return known or f"The status changed to {data['to']}"
        case "pspCall":
            known = _CALLS[data["operation"]].get(data["outcome"])
            return known or f"The PSP answered {data['operation']} with {data['outcome']}"
        case "event":
            return f"The event {data['type']} {'was' if data['published'] else 'waits to be'} published"
        case "audit":
            return f"The audit log recorded {data['action']}"
        case "mail":
            return f"The mail to the {data['to']} was {'rejected' if data['rejected'] else 'sent'}"
        case _:
            subject = JOBS.get(data["name"], data["name"])
            return f"{subject} {_JOB_STATES[data['state']].format(**data)}"
