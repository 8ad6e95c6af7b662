"""Measures each call of the contract in interleaved rounds: ours, the peer's, bare Falcon and pgbench."""

import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import floor, peer
from tests.bench.floor import Run
from tests.bench.options import Options
from tests.bench.resources import Processes, used_ms
from tests.bench.stack import NO_WORKERS, Stores, paywright
from tests.bench.targets import Call, Ours, Target

# These run twice a round on the same server: the ratio of the two is the noise of all ratios.
REPEATED = ("me", "create")
AGAIN = "ours, again"
CONNECTIONS = 16
# Each login computes for some 50 ms: so many keep two cores busy, and none waits for long.
LOGINS = 4
READS_IN_STORM = 8
# The storm begins before the reads that suffer it, and ends after them.
STORM_LEAD_S = 2.0


class Beside:
    """Ours, the peer and the limits, all running at the same time."""

    def __init__(
        self, targets: dict[str, Target], others: dict[str, dict[str, Run]], processes: Processes
    ) -> None:
        self.targets, self._others, self._processes = targets, others, processes

    def calls(self, options: Options) -> dict[str, Any]:
        """Runs every chosen call for some seconds in each round, the programs in turn; returns their figures."""
        figures: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
        for round in range(-1, options.rounds):  # the first only warms up: node's create nearly doubles
            for target in self.targets.values():
                target.renew()
            for name in filter(options.wants_call, self.targets["ours"].calls()):
                runs = _runs(name, self.targets, self._others)
                for program in list(runs)[:: -1 if round % 2 else 1]:
                    before = self._processes.cpu_seconds()
                    run = runs[program](options.seconds if round >= 0 else options.warm_up)
                    if program == "ours":
                        run["cpu"] = used_ms(before, self._processes.cpu_seconds(), run["requests"])
                    options.say(f"round {round + 1}: {name}, {program}: {run['rate']:.0f}/s")
                    if round >= 0:
                        figures[name][program].append(run)
        return figures

    def storm(self, options: Options) -> list[dict[str, float]]:
        """Reads alone, then beside as many sign-ins as the machine can compute: the reads' p95 in ms."""
        target, figures = self.targets["ours"], []
        for _ in range(options.rounds):
            target.renew()
            calls = target.calls()
            alone = target.drive(calls["me"], READS_IN_STORM, options.seconds)
            with ThreadPoolExecutor() as threads:
                seconds = options.seconds + STORM_LEAD_S
                storm = threads.submit(target.drive, calls["login"], CONNECTIONS, seconds)
                time.sleep(STORM_LEAD_S / 2)
                reads = target.drive(calls["me"], READS_IN_STORM, options.seconds)
            figures.append({"alone": alone.p95, "beside": reads.p95, "logins": storm.result().rate})
            options.say(f"storm: the reads' p95 is {alone.p95:.0f} ms, then {reads.p95:.0f} ms")
        return figures

    def resident_mb(self) -> dict[str, list[float]]:
        """Returns the resident megabytes of our web processes."""
        return self._processes.resident_mb()


@contextmanager
def beside(stores: Stores, directory: Path) -> Iterator[Beside]:
    """Starts our web processes without workers, the peer, and the limits."""
    with ExitStack() as running:
        stack = running.enter_context(
            paywright(stores, directory, name="calls", redis_number=0, processes=NO_WORKERS)
        )
        ours = Ours(stack.url)
        targets: dict[str, Target] = {"ours": ours}
        if express := peer.start(running, stores, directory):
            targets["peer"] = Target(express.url)
        for target in targets.values():
            running.callback(target.http.close)
            target.prepare()
        others = floor.start(running, stores, directory, ours, stack)
        yield Beside(targets, others, Processes(stores, stack.pids))


def _runs(name: str, targets: dict[str, Target], others: dict[str, dict[str, Run]]) -> dict[str, Run]:
    """Returns how each program answers this call, by program."""
    called = {program: target.calls() for program, target in targets.items()}
    runs: dict[str, Run] = {
        program: partial(_drive, targets[program], calls[name], LOGINS if name == "login" else CONNECTIONS)
        for program, calls in called.items()
        if name in calls
    }
    if name in REPEATED:
        runs[AGAIN] = runs["ours"]
    return runs | others.get(name, {})


def _drive(target: Target, call: Call, connections: int, seconds: float) -> dict[str, Any]:
    # Each connection needs a token that waits while another is on its way.
    tokens = len(call.carried) // 2
    return target.drive(call, min(connections, tokens) if tokens else connections, seconds).figures()
