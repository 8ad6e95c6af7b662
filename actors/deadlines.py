"""Deadlines of calls that have no timeout of their own, or one that starts anew with each byte."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

R = TypeVar("R")


def within(seconds: float, function: Callable[[], R]) -> R:
    """Returns the result of the function. Raises what it raises, or TimeoutError after this time.

    The function runs in a thread of its own, because an exception thrown into a thread does not interrupt a
    wait for the network. The thread is a daemon: if it hangs, it does not keep the process from exiting.
    """
    outcome: Future[R] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result(seconds)
