"""The PSP worker: the one process that talks to a payment provider, and the place where it is chosen."""

from actors import payment_jobs
from actors.psp import provider
from actors.psp.stub import Stub
from workers import main, process

# How many times WORKER_THREADS ask for the money: they only wait for answers. One customer has one of these
# parts at most, so that others have the rest.
PARTS = 3
# How many threads ask the PSP about what is not known. They are threads of their own: a PSP that answers no
# question does not keep it from charging, and orders that take long do not keep questions from being asked.
INQUIRERS = 4

if __name__ == "__main__":
    provider.choose(Stub(notify=payment_jobs.receive_notice))
    read = process.start()
    share = read.worker_threads
    crews = {frozenset({"psp"}): PARTS * share, frozenset({"psp-questions"}): INQUIRERS}
    main.serve("psp", crews, read, share=share)
