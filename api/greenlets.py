"""How the web process waits and computes, so that one greenlet never keeps the others from running.

`api/__main__.py` has patched the standard library. Here is what that does not reach: psycopg2 waits in C, a
long computation does not wait at all, and asyncio needs a native thread.
"""

import asyncio
import os
import selectors
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar, cast

from gevent import get_hub, monkey
from gevent.socket import wait_read, wait_write
from gevent.threadpool import ThreadPool

from api.http import admission
from db import pool
from db.pool import Connection, Waits

T = TypeVar("T")

_computing_threads = 1

_native_poll = monkey.get_original("select", "poll")
_start_native_thread = monkey.get_original("_thread", "start_new_thread")
_thread_id = monkey.get_original("_thread", "get_ident")


class GreenletWaits(Waits):
    """Lets other greenlets run during each wait for the database."""

    new_poller = staticmethod(_native_poll)

    def __init__(self) -> None:
        self._loop_thread = _thread_id()

    def for_socket(self, fd: int, to_read: bool, timeout_s: float) -> bool:
        # The native thread that connects has no other greenlets.
        if not timeout_s or _thread_id() != self._loop_thread:
            return super().for_socket(fd, to_read, timeout_s)
        wait = wait_read if to_read else wait_write
        try:
            wait(fd, timeout=timeout_s, timeout_exc=TimeoutError)
        except TimeoutError:
            return False
        return True

    def for_connection(self, connect: Callable[[], Connection]) -> Connection:
        """Connects in a native thread: libpq looks names up in the kernel."""
        return _apply(get_hub().threadpool, connect)


def compute(function: Callable[..., T], *args: Any) -> T:
    """Runs a long computation in a native thread.

    The request at hand gives its connection and its place back meanwhile: in a storm of sign-ins the others
    still execute.
    """
    with admission.without_connection():
        computed: T = _apply(_threads(), _give_way, function, *args)
    return computed


def _give_way(function: Callable[..., T], *args: Any) -> T:
    """Computes as a batch: whatever has only a moment to do runs first, such as the thread of the requests.

    Not with a low priority: a thread that has Python's lock would wait for a core (decision 34).
    """
    with suppress(AttributeError, OSError):  # Another system, or one that does not permit it.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    return function(*args)


def use(*, processes: int) -> None:
    """Makes the database's pool wait in greenlets. So many processes share the cores of this machine."""
    global _computing_threads
    pool.waits = GreenletWaits()
    _computing_threads = max(1, (os.cpu_count() or 1) // processes)


def _apply(threads: ThreadPool, function: Callable[..., T], *args: Any) -> T:
    """Runs a function in a native thread.

    Its error is returned, and raised here: gevent prints whatever is raised there, between the lines of the
    log, although it is handled.
    """

    def call() -> tuple[T, None] | tuple[None, Exception]:
        try:
            return function(*args), None
        except Exception as error:
            return None, error

    result, error = threads.apply(call)
    if error is not None:
        raise error
    return cast(T, result)


@cache
def _threads() -> ThreadPool:
    """Created by the first computation: not before the process has forked."""
    return ThreadPool(_computing_threads)


class _NativeSelector(selectors._PollLikeSelector):
    """Waits in the kernel; gevent removes all selectors that do."""

    _selector_cls = _native_poll
    _EVENT_READ, _EVENT_WRITE = 1, 4


class _NativeExecutor(ThreadPoolExecutor):
    """Calls functions for the loop, such as look-ups of names, each in a native thread."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        outcome: Future[Any] = Future()

        def call() -> None:
            try:
                outcome.set_result(function(*args, **named))
            except BaseException as error:
                outcome.set_exception(error)

        _start_native_thread(call, ())
        return outcome


def start_asyncio() -> None:
    """Starts the loop that all file systems of fsspec, the remote media stores, use from now on.

    fsspec runs asyncio in a thread of `threading`. In this process that would be a greenlet of the thread
    that waits for the loop: it could not run.
    """
    import fsspec.asyn  # noqa: PLC0415  (more than a megabyte, which files on the disk do not need)

    loop = asyncio.SelectorEventLoop(_NativeSelector())
    loop.set_default_executor(_NativeExecutor())
    _start_native_thread(loop.run_forever, ())
    fsspec.asyn.loop[0] = loop
