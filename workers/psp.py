"""The PSP worker process: the only one that calls the payment provider, and the place that chooses it."""

from actors import payment_jobs
from actors.psp import provider
from actors.psp.stub import Stub
from workers import main, process

# Threads that charge, and threads that inquire, as multiples of WORKER_THREADS: they only wait for answers.
# WORKER_THREADS of the first at most charge for one customer, so that others have the rest.
# Separate ones: a PSP that answers no inquiry must not keep payments from being charged, and slow charges
# must not keep unknown outcomes from being resolved. As many for both: an inquiry follows each charge that
# ends without an answer, and fewer threads would let those about one customer's orders hold up all others.
CHARGE_THREADS_FACTOR = INQUIRY_THREADS_FACTOR = 3


def threads_of(worker_threads: int) -> dict[frozenset[str], int]:
    """Returns how many threads call the PSP for each queue."""
    return {
        frozenset({"psp"}): CHARGE_THREADS_FACTOR * worker_threads,
        frozenset({"psp-inquiries"}): INQUIRY_THREADS_FACTOR * worker_threads,
    }


if __name__ == "__main__":
    process.refuse_arguments("workers.psp")
    settings = process.start("psp")
    provider.choose(Stub(payment_jobs.receive_notice, simulate=settings.simulates_psp))
    main.serve(threads_of(settings.worker_threads), settings, share=settings.worker_threads)
