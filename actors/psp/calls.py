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


class OfPayment(Caused, Protocol):
    """What a request has caused about a payment."""

    @property
    def payment_id(self) -> UUID: ...


@dataclass
class Call:
    """A recorded call that is about to be made."""

    id: UUID
    operation: PspOperation
    order: Order
    cause: Caused
    # Whether a transaction was to record its result, which may have failed.
    was_recorded: bool = False
    # By the monotonic clock.
    begun_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Response:
    """What a call brought: a result, and with a decision the answer."""

    result: PspResult
    answer: Answer | None = None


def begin(operation: PspOperation, wanted: Mapping[UUID, OfPayment]) -> list[Call | None]:
    """Records calls, by their new ids, and returns them; None for one that must not be made.

    That is a call about a payment that is no longer `processing`, and a charge while the PSP may have the
    order: after the first charge, an inquiry must have found none.
    """
    # Before anything is recorded: without a provider there is no call.
    provider.chosen()
    payment_ids = {id: cause.payment_id for id, cause in wanted.items()}
    terms = psp_attempts.begin(payment_ids, operation, max_charges=MAX_CHARGE_CALLS)
    # The key is known before the first call, and the same for every call.
    return [
        Call(id, operation, Order(str(cause.payment_id), cause.payment_id, **terms[id]), cause)
        if id in terms
        else None
        for id, cause in wanted.items()
    ]


def make(call: Call) -> Response:
    """Makes the call, without a transaction. Raises nothing: every end of a call is a result."""
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
    """Tells whether the transaction that records these calls may settle them, too.

    Settlement locks payments, before the rows of the jobs. A worker that takes over a job whose lease has
    expired locks them in the opposite order, and jobs that are enqueued come after both: so it may if all
    are charges that have brought decisions in time. What failed once is left to jobs, each with one decision.
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

    Also if the lease of a job is lost by now: it decides which process may call the PSP, not whose answer
    counts.
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
