"""Calls of the PSP: recorded before they are made, completed with their results, many in one statement."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol
from uuid import UUID

import structlog

from actors import tracing
from actors.psp import provider
from actors.psp.provider import Answer, NoAnswer, Order, Unavailable
from actors.psp.resolution import MAX_CHARGE_CALLS
from db import psp_attempts
from db.core import request_context
from db.core.request_context import Caused
from db.psp_attempts import CallResult, PspOperation, PspResult

# A call that took no longer is settled at once: the lease of its job (15 s) cannot have expired.
SETTLED_AT_ONCE_WITHIN_S = 10.0

log = structlog.get_logger(__name__)


class CallCause(Caused, Protocol):
    """What causes a call: a job that names its payment, and the request that has caused the job."""

    @property
    def payment_id(self) -> UUID: ...


@dataclass
class Call:
    """A recorded call that is about to be made."""

    id: UUID
    operation: PspOperation
    order: Order
    cause: Caused
    # Whether a transaction has tried to record the result. That may have failed.
    was_recorded: bool = False
    # By the monotonic clock.
    begun_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Response:
    """The end of a call: a result, and the PSP's answer if the result is a decision."""

    result: PspResult
    answer: Answer | None = None


def begin(operation: PspOperation, causes: Mapping[UUID, CallCause]) -> list[Call | None]:
    """Records calls and returns them, in the order of `causes`, whose keys are the ids of the new calls.

    None stands for a call that must not be made: the payment is no longer `processing`, or a charge call
    would follow another one although no inquiry since has found that the PSP has no order. Raises
    RuntimeError, and records nothing, in a process without a provider.
    """
    provider.chosen()
    payment_ids = {id: cause.payment_id for id, cause in causes.items()}
    terms = psp_attempts.begin(payment_ids, operation, max_charges=MAX_CHARGE_CALLS)
    # The idempotency key is the payment's id: known before the first call, and the same for every call.
    return [
        Call(id, operation, Order(str(cause.payment_id), cause.payment_id, **terms[id]), cause)
        if id in terms
        else None
        for id, cause in causes.items()
    ]


def make(call: Call) -> Response:
    """Makes the call, outside any transaction, and returns its response, whatever the provider raises.

    Raises RuntimeError in a process without a provider.
    """
    psp, order = provider.chosen(), call.order
    try:
        with tracing.span(f"PSP {call.operation}", "CLIENT", {"paywright.payment.id": order.key}):
            answer = psp.charge(order) if call.operation is PspOperation.CHARGE else psp.find(order.key)
        response = Response(PspResult(answer.outcome) if answer else PspResult.NOT_FOUND, answer)
    except Unavailable:
        response = Response(PspResult.UNAVAILABLE)
    except NoAnswer:
        response = Response(PspResult.NO_ANSWER)
    except Exception:
        log.exception("PSP adapter failed", payment_id=order.key, operation=call.operation)
        response = Response(PspResult.NO_ANSWER)
    log.info(
        "PSP called",
        payment_id=order.key,
        operation=call.operation,
        result=response.result,
        traceparent=request_context.current().traceparent,
    )
    return response


def may_be_settled_at_once(responses: Sequence[tuple[Call, Response]]) -> bool:
    """Returns whether the transaction that records these calls may also settle their decisions.

    Only if all are charge calls that brought a decision within SETTLED_AT_ONCE_WITHIN_S. Settlement locks the
    payments, then the rows of the jobs. A worker that takes over a job with an expired lease locks them in
    the opposite order, and so would a transaction that also enqueues jobs. If such a transaction has failed
    once, False: each decision then gets a job of its own, so that one cannot hold up the others.
    """
    is_first = not any(call.was_recorded for call, _response in responses)
    begun_after = time.monotonic() - SETTLED_AT_ONCE_WITHIN_S
    for call, _response in responses:
        call.was_recorded = True
    return is_first and all(
        response.answer and call.operation is PspOperation.CHARGE and call.begun_at > begun_after
        for call, response in responses
    )


def record(responses: Sequence[tuple[Call, Response]], *, settled: bool = False) -> None:
    """Records the results of calls; `settled` says that the same transaction settles their decisions.

    A result is recorded even if the job's lease has expired: the lease decides which process may call the
    PSP, not whose answer counts.
    """
    psp_attempts.record_results(
        [
            CallResult(call.id, **asdict(response.answer))
            if response.answer
            else CallResult(call.id, response.result)
            for call, response in responses
        ],
        settled=settled,
    )
