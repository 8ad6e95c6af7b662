"""How the web process waits, so that one greenlet never keeps the others from running.

`api/__main__.py` has patched the standard library. This module covers what the patches do not reach: psycopg2
waits in C, and asyncio needs a native thread. Long computations run in other processes
(`api/security/hashing_processes.py`, `api/profile/decoding.py`).
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gevent import get_hub, monkey
from gevent.socket import wait_read, wait_write

from db import pool
from db.pool import Connection, Waits

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
        """Connects in a native thread: libpq resolves names by a call that blocks.

        The thread returns an error instead of raising it: gevent would print the traceback between the lines
        of the log, although the error is handled here.
        """

        def call() -> Connection | Exception:
            try:
                return connect()
            except Exception as error:
                return error

        connected: Connection | Exception = get_hub().threadpool.apply(call)
        if isinstance(connected, Exception):
            raise connected
        return connected


def use() -> None:
    """Makes the database's pool wait in greenlets."""
    pool.waits = GreenletWaits()


class _NativeSelector(selectors._PollLikeSelector):
    """A selector that waits in the kernel. gevent removes those of the standard library."""

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

    fsspec runs asyncio in a thread of `threading`. In this process such a thread is a greenlet of the thread
    that waits for the loop, and never gets to run.
    """
    import fsspec.asyn  # noqa: PLC0415  (more than a megabyte, which files on the disk do not need)

    loop = asyncio.SelectorEventLoop(_NativeSelector())
    loop.set_default_executor(_NativeExecutor())
    _start_native_thread(loop.run_forever, ())
    fsspec.asyn.loop[0] = loop
