"""Transitions applied to many payments at once."""

import pytest

from actors import transitions
from actors.jobs import transaction
from actors.state_machine import Transition, TransitionRefused
from actors.transitions import Change
from db import payments
from db.core import request_context
from db.core.request_context import RequestContext
from db.payments import Payment
from db.users import Role, User
from tests import makers
from tests.counting import counted
from tests.makers import pay, work

pytestmark = pytest.mark.usefixtures("database")


def lock_and_apply(made: list[Payment], *path: Transition) -> None:
    """Applies each of these transitions to all payments at once."""
    for transition in path:
        with transaction():
            locked = payments.lock([payment.id for payment in made])
            transitions.apply_all([Change(locked[payment.id], transition) for payment in made])


def test_many_payments_and_their_requests_need_as_many_statements_as_one():
    vendor = makers.user(Role.VENDOR)
    numbers = []
    for number in (1, 9):
        opened = [makers.open_request(vendor) for _ in range(number)]
        paid = [pay(request) for request in opened]
        with counted() as asked:
            lock_and_apply(paid, Transition.BEGIN, Transition.COMPLETE)
        numbers.append(len(asked.statements))
        assert {makers.reload(request).status for request in opened} == {"completed"}
        work()
    assert numbers[0] == numbers[1]


def test_one_refused_transition_changes_none_of_the_payments():
    begun, pending = makers.payment(), makers.payment()
    lock_and_apply([begun], Transition.BEGIN)
    with pytest.raises(TransitionRefused):
        lock_and_apply([pending, begun], Transition.BEGIN)
    assert makers.reload(pending).status == "pending"


def test_each_change_is_recorded_for_the_request_that_caused_it():
    made = [makers.payment() for _ in range(3)]
    contexts = [RequestContext(f"request-{number}", makers.user().id) for number in range(3)]
    with transaction():
        locked = payments.lock([payment.id for payment in made])
        changes = []
        for payment, context in zip(made, contexts, strict=True):
            with request_context.acting_as(context):
                changes.append(Change(locked[payment.id], Transition.CANCEL))
        transitions.apply_all(changes)
    work()
    for payment, context in zip(made, contexts, strict=True):
        [_, entry] = makers.audit_entries(payment.id)
        assert (entry.request_id, entry.user_id) == (context.request_id, context.user_id)
        [_, cancelled] = payments.history(payment.id)
        assert cancelled.actor_id == context.user_id


def test_only_requests_of_vendors_are_open_again_after_their_payments_failed():
    stays, leaves = makers.user(Role.VENDOR), makers.user(Role.VENDOR)
    opened = [makers.open_request(vendor) for vendor in (stays, leaves)]
    paid = [pay(request) for request in opened]
    lock_and_apply(paid, Transition.BEGIN)
    User.update(role=Role.CUSTOMER).where(User.id == leaves.id).execute()
    lock_and_apply(paid, Transition.FAIL)
    assert [makers.reload(request).status for request in opened] == ["initiated", "cancelled"]
