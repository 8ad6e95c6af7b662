"""The PSP worker: the one process that talks to a payment provider, and the place where it is chosen."""

from actors import payments
from actors.psp import provider
from actors.psp.stub import Stub
from workers import main

if __name__ == "__main__":
    provider.choose(Stub(tell=payments.hear))
    # Questions have a queue of their own: a PSP that answers none of them must not keep it from charging.
    main.run("psp", {"psp", "psp-questions"})
