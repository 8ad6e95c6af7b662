"""Processes compute hashes with a low priority; a request never gets the answer to another one."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import bcrypt
import gevent
import psutil
import pytest

from api.security import hashing, hashing_processes
from api.security.hashing_processes import CannotHash, HashingProcesses
from tests.makers import until

SALT = b"$2b$04$abcdefghijklmnopqrstuu"
HASH = bcrypt.hashpw(b"secret", SALT)


@pytest.fixture
def processes():
    created = []

    def create(count: int) -> HashingProcesses:
        created.append(HashingProcesses(count))
        return created[-1]

    yield create
    for process in [process for each in created for process in each._idle]:
        process.kill()


@pytest.fixture
def frozen(processes) -> tuple[HashingProcesses, int]:
    """At most one process, which is stopped, and its number."""
    ours = processes(1)
    ours.hash(b"secret", SALT)
    [pid] = pids()
    os.kill(pid, signal.SIGSTOP)
    return ours, pid


def pids() -> set[int]:
    return {process.pid for process in psutil.Process().children() if computes_hashes(process)}


def computes_hashes(process: psutil.Process) -> bool:
    # A child that has ended, which a test of another file may have left, has no command line.
    with suppress(psutil.NoSuchProcess):
        return any("hashing.py" in word for word in process.cmdline())
    return False


@pytest.mark.parametrize("password", [b"secret", b"", b"\xff" * 72, b"a b\nc\n"])
def test_a_process_computes_the_same_as_the_package(processes, password):
    assert processes(1).hash(password, SALT) == bcrypt.hashpw(password, SALT)


def test_a_salt_of_another_kind_is_an_error_of_its_request_only(processes):
    ours = processes(1)
    for salt in (b"$2b$04$short", SALT[:7] + b"\n" + SALT[8:], b""):
        with pytest.raises(ValueError, match="not computed"):
            ours.hash(b"secret", salt)
        assert ours.hash(b"secret", SALT) == HASH
    assert len(pids()) == 1


def test_without_a_library_the_package_computes(processes, monkeypatch, tmp_path):
    program = tmp_path / "hashing.py"
    text = Path(hashing.__file__).read_text()
    program.write_text(text.replace('("libcrypt.so.1", "libcrypt.so.2")', '("libabsent.so.1",)'))
    assert program.read_text() != text
    monkeypatch.setattr(hashing_processes, "_COMMAND", [sys.executable, "-I", str(program)])
    ours = processes(1)
    assert ours.hash(b"secret", SALT) == HASH
    with pytest.raises(ValueError, match="not computed"):
        ours.hash(b"secret", b"$2b$04$short")


def test_a_process_has_a_low_priority_and_little_else(processes):
    assert not pids()
    processes(1).hash(b"secret", SALT)
    [pid] = pids()
    process = psutil.Process(pid)
    assert process.nice() == min(19, os.nice(0) + 10)
    assert process.environ() == {}
    assert process.num_fds() == 3
    assert process.memory_info().rss < 16_000_000
    # Ctrl-C in the terminal does not reach it.
    assert os.getpgid(pid) != os.getpgrp()
    assert os.getsid(pid) == os.getsid(0)


def test_another_greenlet_runs_while_one_waits_for_a_hash(processes):
    other = gevent.spawn(lambda: None)
    assert processes(1).hash(b"secret", SALT) == HASH
    assert other.dead


@pytest.mark.parametrize("count", [1, 2])
def test_so_many_compute_at_a_time_and_each_request_gets_its_own_answer(processes, count):
    ours = processes(count)
    passwords = [str(number).encode() for number in range(8)]
    hashes = [gevent.spawn(ours.hash, password, SALT) for password in passwords]
    gevent.joinall(hashes)
    assert [each.get() for each in hashes] == [bcrypt.hashpw(password, SALT) for password in passwords]
    assert len(pids()) == count


def test_processes_that_were_killed_are_replaced(processes):
    ours = processes(2)
    gevent.joinall([gevent.spawn(ours.hash, b"secret", SALT) for _ in range(2)])
    killed = pids()
    assert len(killed) == 2
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert ours.hash(b"secret", SALT) == HASH
    # While the new one is frozen, the next request gets the other one that was killed.
    [new] = pids() - killed
    os.kill(new, signal.SIGSTOP)
    waiting = gevent.spawn(ours.hash, b"secret", SALT)
    gevent.idle()
    assert ours.hash(b"secret", SALT) == HASH
    os.kill(new, signal.SIGCONT)
    assert waiting.get() == HASH
    assert len(pids()) == 2
    # Nor is one left that nobody has waited for.
    assert not [pid for pid in killed if psutil.pid_exists(pid)]


def test_a_process_that_is_killed_while_it_computes_is_replaced(frozen):
    ours, pid = frozen
    waiting = gevent.spawn(ours.hash, b"secret", SALT)
    gevent.idle()
    os.kill(pid, signal.SIGKILL)
    assert waiting.get() == HASH
    assert not psutil.pid_exists(pid)


def test_a_frozen_process_is_replaced_after_its_deadline(frozen, monkeypatch):
    ours, pid = frozen
    with monkeypatch.context() as patched:
        patched.setattr(hashing_processes, "DEADLINE_S", 0.01)
        with pytest.raises(CannotHash):
            ours.hash(b"secret", SALT)
    assert not psutil.pid_exists(pid)
    assert not pids()
    assert ours.hash(b"secret", SALT) == HASH


def test_a_request_does_not_wait_long_for_a_free_process(frozen, monkeypatch):
    ours, pid = frozen
    first = gevent.spawn(ours.hash, b"secret", SALT)
    gevent.idle()
    monkeypatch.setattr(hashing_processes, "QUEUE_S", 0.01)
    with pytest.raises(CannotHash):
        ours.hash(b"secret", SALT)
    os.kill(pid, signal.SIGCONT)
    assert first.get() == HASH


@pytest.mark.parametrize("command", [["false"], ["/absent"]])
def test_a_process_that_does_not_start_is_no_reason_to_wait(processes, monkeypatch, command):
    ours = processes(1)
    with monkeypatch.context() as patched:
        patched.setattr(hashing_processes, "_COMMAND", command)
        with pytest.raises(CannotHash):
            ours.hash(b"secret", SALT)
    assert ours.hash(b"secret", SALT) == HASH


def test_the_answer_to_a_request_that_ended_is_given_to_no_other(frozen):
    ours, pid = frozen
    ended = gevent.spawn(ours.hash, b"another", SALT)
    gevent.idle()
    ended.kill()
    assert not psutil.pid_exists(pid)
    assert not pids()
    assert ours.hash(b"secret", SALT) == HASH


PARENT = """
import gevent, signal
from api.security.hashing_processes import HashingProcesses
hashing = HashingProcesses(1)
hashing.hash(b"secret", SALT)
if COMPUTING:
    gevent.spawn(hashing.hash, b"secret", SALT.replace(b"04", b"13"))
    gevent.idle()
print("waits", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("computing", [False, True])
def test_a_process_ends_silently_with_a_web_process_that_is_killed(computing):
    program = PARENT.replace("SALT", repr(SALT)).replace("COMPUTING", repr(computing))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"waits\n"
        [child] = psutil.Process(parent.pid).children()
        parent.kill()
        # The child has the same standard error.
        assert parent.communicate(timeout=60)[1] == b""

    def has_ended() -> bool:
        # It may be waited for between the two questions.
        with suppress(psutil.NoSuchProcess):
            return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        return True

    until(has_ended)
