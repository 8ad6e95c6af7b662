"""The diagram of states shows the transition table, and the way that a payment has gone."""

import re
from typing import Any

import pytest

from actors import state_machine
from actors.transitions import NO_VENDOR
from api.console import diagram

LAYOUTS: list[diagram.Layout] = ["wide", "tall"]
CREATED: dict[str, Any] = {"from": None, "to": "pending", "transition": "create"}
BEGUN: dict[str, Any] = {"from": "pending", "to": "processing", "transition": "begin"}
ENGAGED: dict[str, Any] = {"from": "initiated", "to": "processing", "transition": "engage"}
REOPENED: dict[str, Any] = {"from": "processing", "to": "initiated", "transition": "reopen"}


def test_the_arrows_are_the_transition_table():
    drawn = {
        (kind, arrow.start, transition, arrow.end)
        for kind, machine in diagram.MACHINES.items()
        for arrow in machine.arrows
        for transition in arrow.transitions
    }
    table = {
        (kind, start, transition, end) for (kind, start, transition), end in state_machine.TRANSITIONS.items()
    }
    assert drawn == {each for each in table if each[1]}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_way_of_a_payment_is_taken(layout):
    drawn = diagram.draw({"type": "payment", "status": "processing"}, [CREATED, BEGUN], layout)
    assert [(edge.label, edge.is_latest) for edge in drawn.edges if edge.taken] == [("begin", True)]
    assert {state.name for state in drawn.states if state.is_passed} == {"pending", "processing"}
    assert [state.name for state in drawn.states if state.is_current] == ["processing"]
    assert (
        drawn.text == "The payment is processing. The path taken: create, to pending; begin, to processing."
    )


def test_a_transition_that_was_made_twice_says_so():
    made = [CREATED, {**BEGUN, "to": "initiated"}, ENGAGED, REOPENED, ENGAGED]
    drawn = diagram.draw({"type": "initiate", "status": "processing"}, made, "wide")
    assert {edge.label for edge in drawn.edges if edge.taken} == {"begin", "engage 2 times", "reopen"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["payment", "initiate"])
def test_everything_is_inside_the_drawing(kind, layout):
    drawn = diagram.draw({"type": kind, "status": "pending"}, [], layout)
    for edge in drawn.edges:
        numbers = [float(number) for number in re.findall(r"[\d.-]+", edge.path)]
        assert all(0 < x < drawn.width for x in numbers[::2])
        assert all(0 < y < drawn.height for y in numbers[1::2])


def test_every_transition_names_the_code_that_makes_it(root):
    table = {(kind, transition) for kind, _, transition in state_machine.TRANSITIONS}
    assert diagram.PLACES.keys() == table
    places = [*diagram.PLACES.values(), *diagram.PLACES_BY_REASON.values()]
    for place in places:
        file, function = place.split(": ")
        assert f"\ndef {function}(" in (root / file).read_text()


def test_the_reason_of_a_cancellation_names_its_code():
    request = {"type": "initiate", "requestId": None, "failure": None}
    cancelled = {"transition": "cancel", "reason": NO_VENDOR}
    assert diagram.code_of(request, cancelled).endswith(": withdraw_requests")
