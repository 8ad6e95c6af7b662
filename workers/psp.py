"""The PSP worker process: the only one that calls the payment provider, and the place that chooses it."""

from actors import payment_jobs
from actors.psp import provider
from actors.psp.stub import Stub
from workers import main, process

# Threads that charge, as a multiple of WORKER_THREADS: they only wait for answers. WORKER_THREADS of them at
# most work for one customer, so that others have the rest.
CHARGE_THREADS_FACTOR = 3
# Threads that inquire. Separate ones: a PSP that answers no inquiry must not keep payments from being
# charged, and slow charges must not keep unknown outcomes from being resolved.
INQUIRY_THREADS = 4

if __name__ == "__main__":
    process.refuse_arguments("workers.psp")
    settings = process.start("psp")
    provider.choose(Stub(payment_jobs.receive_notice, simulate=settings.simulates_psp))
    share = settings.worker_threads
    threads_of = {
        frozenset({"psp"}): CHARGE_THREADS_FACTOR * share,
        frozenset({"psp-inquiries"}): INQUIRY_THREADS,
    }
    main.serve(threads_of, settings, share=share)
