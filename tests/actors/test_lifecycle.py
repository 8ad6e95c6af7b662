"""The law, every pair of it."""

from itertools import product

import pytest

from actors.state_machine import PARTICIPLES, TRANSITIONS, Transition, TransitionRefused, next_status
from db.states import TERMINAL, PaymentStatus, PaymentType

# As docs/life-of-a-payment.md draws it.
DRAWN = {
    "payment": """
        - create pending, pending begin processing, pending cancel cancelled,
        processing complete completed, processing fail failed
    """,
    "initiate": """
        - create pending, pending begin initiated, pending cancel cancelled, initiated cancel cancelled,
        initiated expire failed, initiated fail failed, initiated engage processing, processing complete completed,
        processing reopen initiated
    """,
}


def test_the_law_is_what_is_drawn():
    drawn = {
        (type, *step.split())
        for type, steps in DRAWN.items()
        for step in (part.strip() for part in steps.split(","))
    }
    assert {(type, before or "-", step, to) for (type, before, step), to in TRANSITIONS.items()} == drawn


@pytest.mark.parametrize(
    ("type", "status", "step"), list(product(PaymentType, [None, *PaymentStatus], Transition))
)
def test_every_other_step_is_refused_in_a_sentence(type, status, step):
    if (type, status, step) in TRANSITIONS:
        assert next_status(type, status, step) is TRANSITIONS[type, status, step]
    else:
        with pytest.raises(
            TransitionRefused,
            match=f"^An? {status or 'new'} payment( request)? cannot be {PARTICIPLES[step]}.$",
        ):
            next_status(type, status, step)


def test_nothing_leaves_a_final_status_and_everything_else_can_be_left():
    left = {(type, before) for type, before, _ in TRANSITIONS if before}
    assert {before for _, before in left} & TERMINAL == set()
    assert {(type, to) for (type, _, _), to in TRANSITIONS.items()} - left == {
        (type, status) for type in PaymentType for status in TERMINAL
    }
