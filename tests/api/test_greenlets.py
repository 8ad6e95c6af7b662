"""In the web process a wait for the database, or a long computation, lets other requests go on."""

import os
import socket
import threading

import gevent
import psycopg2
import pytest

from api.greenlets import GreenletWaits, compute
from db.pool import Connection


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_another_greenlet_runs_while_one_waits_for_the_server(pair):
    ours, theirs = pair
    answering = gevent.spawn(theirs.send, b"answer")
    assert GreenletWaits().for_socket(ours.fileno(), True, 10)
    assert answering.dead


def test_a_server_that_does_not_answer_is_not_waited_for_longer_than_allowed(pair):
    assert not GreenletWaits().for_socket(pair[0].fileno(), True, 0.01)
    assert not GreenletWaits().for_socket(pair[0].fileno(), True, 0)
    assert GreenletWaits().for_socket(pair[0].fileno(), False, 0)


def test_a_native_thread_waits_by_itself(pair):
    waits, ready = GreenletWaits(), []
    pair[1].send(b"answer")
    thread = threading.Thread(target=lambda: ready.append(waits.for_socket(pair[0].fileno(), True, 10)))
    thread.start()
    thread.join()
    assert ready == [True]


def test_another_greenlet_runs_while_one_computes():
    answered = threading.Event()
    answering = gevent.spawn(answered.set)
    assert compute(answered.wait, 10)
    assert answering.dead


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system has no class for batches")
def test_a_computation_interrupts_no_request_when_it_gets_a_core():
    before = os.sched_getscheduler(0)
    assert compute(os.sched_getscheduler, 0) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == before


def test_the_error_of_a_computation_is_raised_and_not_printed(capfd):
    with pytest.raises(ZeroDivisionError):
        compute(divmod, 1, 0)
    assert capfd.readouterr().err == ""


def test_a_connection_that_is_refused_leaves_the_log_to_those_who_handle_it(capfd):
    def refuse() -> Connection:
        raise psycopg2.OperationalError("Connection refused")

    with pytest.raises(psycopg2.OperationalError):
        GreenletWaits().for_connection(refuse)
    assert capfd.readouterr().err == ""
