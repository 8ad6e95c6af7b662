"""In the web process a wait for the database lets other requests go on."""

import socket
import threading

import gevent
import psycopg2
import pytest

from api.greenlets import GreenletWaits
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


def test_a_connection_that_is_refused_leaves_the_log_to_those_who_handle_it(capfd):
    def refuse() -> Connection:
        raise psycopg2.OperationalError("Connection refused")

    with pytest.raises(psycopg2.OperationalError):
        GreenletWaits().for_connection(refuse)
    assert capfd.readouterr().err == ""
