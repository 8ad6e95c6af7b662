"""The titles of a timeline's items: each kind in a sentence for people."""

from collections.abc import Mapping
from typing import Any

from actors import mail, payment_endings, payment_jobs
from actors.state_machine import Transition
from db.psp_attempts import PspOperation, PspResult
from db.states import PaymentType

STILL_TO_COME = "Something is still to come"
EXPIRES = "The request expires unless it is paid"
RECONCILES = "The reconciler looks at the payment"

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


def of(kind: str, data: Mapping[str, Any], payment_type: str) -> str:
    """Returns the title of an item of this kind, made of its data."""
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
