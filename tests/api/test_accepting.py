"""The processes of a machine serve about as many connections each."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from api.worker import MAX_PROCESSES, OpenConnections
from tests.makers import SECRETS


@pytest.fixture
def connections():
    return OpenConnections()


def open_many(connections, counts):
    for place, count in counts.items():
        for _ in range(count):
            connections.opened(place)


def test_a_process_that_has_more_is_ahead(connections):
    first, second = connections.take_place(), connections.take_place()
    assert not connections.is_ahead(first)
    connections.opened(first)
    assert connections.is_ahead(first)
    assert not connections.is_ahead(second)
    connections.closed(first)
    assert not connections.is_ahead(first)


def test_of_many_a_few_more_make_no_difference(connections):
    first, second = connections.take_place(), connections.take_place()
    open_many(connections, {first: 110, second: 100})
    assert not connections.is_ahead(first)


def test_a_process_alone_is_never_ahead(connections):
    first, second = connections.take_place(), connections.take_place()
    open_many(connections, {first: 5})
    connections.leave_place(second)
    assert not connections.is_ahead(first)


def test_a_place_is_used_again_and_starts_with_none(connections):
    first, second = connections.take_place(), connections.take_place()
    open_many(connections, {first: 5})
    connections.leave_place(first)
    assert connections.take_place() == first
    assert not connections.is_ahead(first)
    assert second != first


def test_more_processes_than_places_can_accept_too(connections):
    places = Counter(connections.take_place() for _ in range(MAX_PROCESSES + 2))
    assert places[MAX_PROCESSES - 1] == 3


def test_the_counts_are_those_of_all_processes(connections):
    first, second = connections.take_place(), connections.take_place()
    child = os.fork()
    if child == 0:
        connections.opened(second)
        os._exit(0)
    os.waitpid(child, 0)
    assert connections.is_ahead(second)
    assert not connections.is_ahead(first)


def test_an_idle_connection_is_kept_for_longer_than_proxies_and_clients_keep_theirs(stores):
    script = "import api.gunicorn; print(api.gunicorn.keepalive)"
    environment = {**os.environ, **SECRETS, **stores}
    printed = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, timeout=60
    ).stdout
    assert int(printed) > 60
