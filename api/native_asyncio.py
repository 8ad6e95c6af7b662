"""The event loop of remote media stores, in a native thread of the web process.

fsspec runs asyncio in a thread of `threading`. In this process that would be a greenlet of the thread that
waits for the loop: it could not run.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import fsspec.asyn
from gevent import monkey

_start_native_thread = monkey.get_original("_thread", "start_new_thread")


class _NativeSelector(selectors._PollLikeSelector):
    """Waits in the kernel; gevent removes all selectors that do."""

    _selector_cls = monkey.get_original("select", "poll")
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


def start() -> None:
    """Starts the loop that all file systems of fsspec use from now on."""
    loop = asyncio.SelectorEventLoop(_NativeSelector())
    loop.set_default_executor(_NativeExecutor())
    _start_native_thread(loop.run_forever, ())
    fsspec.asyn.loop[0] = loop
