"""The PSP worker: the one process that talks to a payment provider, and the place where it is chosen."""

from actors import payments
from actors.psp import provider
from actors.psp.stub import Stub
from workers import main, process

# How many threads ask the PSP about what is not known.
INQUIRERS = 2

if __name__ == "__main__":
    provider.choose(Stub(tell=payments.hear))
    read = process.boot()
    # Questions have threads of their own: neither does a PSP that answers none of them keep it from
    # charging, nor do orders that take long keep what is not known of others from being asked.
    main.serve(
        "psp", {frozenset({"psp"}): read.worker_threads, frozenset({"psp-questions"}): INQUIRERS}, read
    )
