"""The transition table, every combination of type, status and transition."""

from itertools import product

import pytest

from actors.state_machine import PARTICIPLES, TRANSITIONS, Transition, TransitionRefused, next_status
from db.states import TERMINAL, PaymentStatus, PaymentType

# As in docs/life-of-a-payment.md.
DRAWN = {
    "payment": """
        - create pending, pending begin processing, pending cancel cancelled,
        processing complete completed, processing fail failed
    """,
    "initiate": """
        - create pending, pending begin initiated, pending cancel cancelled, initiated cancel cancelled,
        initiated expire failed, initiated fail failed, initiated engage processing, processing complete
        completed, processing reopen initiated
    """,
}


def test_the_table_is_the_diagram():
    drawn = {
        (type, *edge.split())
        for type, edges in DRAWN.items()
        for edge in (part.strip() for part in edges.split(","))
    }
    table = {(type, before or "-", transition, to) for (type, before, transition), to in TRANSITIONS.items()}
    assert table == drawn


@pytest.mark.parametrize(
    ("type", "status", "transition"), list(product(PaymentType, [None, *PaymentStatus], Transition))
)
def test_a_transition_leads_where_the_table_says_or_is_refused(type, status, transition):
    if (type, status, transition) in TRANSITIONS:
        assert next_status(type, status, transition) is TRANSITIONS[type, status, transition]
    else:
        done = PARTICIPLES[transition]
        with pytest.raises(
            TransitionRefused, match=f"^An? {status or 'new'} payment( request)? cannot be {done}.$"
        ):
            next_status(type, status, transition)


def test_a_refusal_names_the_status_and_those_that_can_follow():
    with pytest.raises(TransitionRefused) as refused:
        next_status(PaymentType.INITIATE, PaymentStatus.INITIATED, Transition.REOPEN)
    assert refused.value.message == "An initiated payment request cannot be reopened."
    assert refused.value.details == {
        "status": "initiated",
        "nextStatuses": ["processing", "failed", "cancelled"],
    }


def test_only_a_terminal_status_has_no_transition():
    left = {(type, before) for type, before, _ in TRANSITIONS if before}
    assert {before for _, before in left} & TERMINAL == set()
    assert {(type, to) for (type, _, _), to in TRANSITIONS.items()} - left == {
        (type, status) for type in PaymentType for status in TERMINAL
    }
