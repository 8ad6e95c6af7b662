"""What to measure, and for how long."""

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

# The first two run beside the peer, without workers; the others on the whole stack, growth last.
BESIDE = ("calls", "storm")
WHOLE = ("idle", "settling", "snapshot", "growth")


@dataclass(frozen=True)
class Options:
    """The chosen options."""

    rounds: int
    seconds: float
    warm_up: float
    settle_seconds: float
    only: frozenset[str]
    payments: int
    idle_seconds: float
    growth: int
    publish: bool

    def described(self) -> dict[str, Any]:
        """Returns the options as they are stored with the figures."""
        return {**asdict(self), "only": sorted(self.only)}

    def say(self, line: str) -> None:
        """Writes a line of progress."""
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")

    def wants(self, name: str) -> bool:
        """Whether this measure was chosen, or one of its calls."""
        calls = self.only - set(BESIDE + WHOLE)
        return not self.only or name in self.only or (name == "calls" and bool(calls))

    def wants_call(self, name: str) -> bool:
        """Whether this call was chosen: all are if the measure was."""
        return not self.only or "calls" in self.only or name in self.only


def parse(arguments: list[str] | None = None) -> Options:
    """Reads the options of the command line; ends the program at a wrong one."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="one short round of each, in about three minutes")
    add("--rounds", type=int, help="interleaved rounds (5)")
    add("--seconds", type=float, help="seconds a run (4)")
    add(
        "--settle-seconds",
        type=float,
        help="how long payments are made at the rate at which they settle (60)",
    )
    add("--only", default="", help=f"comma separated: {', '.join(BESIDE + WHOLE)}, or names of calls")
    add("--growth", type=int, help="to how many payments the tables grow (1,000,000)")
    add("--publish", action="store_true", help="write the figures to docs/benchmarks.md")
    chosen = parser.parse_args(arguments)
    quick = (1, 1.5, 1.0, 6.0, 10, 30.0, 20_000)
    # Idle for a minute: what happens once in a minute is then counted once.
    usual = quick if chosen.quick else (5, 4.0, 5.0, 60.0, 50, 60.0, 1_000_000)
    rounds, seconds, warm_up, settle_seconds, payments, idle_seconds, growth = usual
    return Options(
        rounds=chosen.rounds or rounds,
        seconds=chosen.seconds or seconds,
        warm_up=min(warm_up, chosen.seconds or warm_up),
        settle_seconds=chosen.settle_seconds or settle_seconds,
        only=frozenset(filter(None, chosen.only.split(","))),
        payments=payments,
        idle_seconds=idle_seconds,
        growth=chosen.growth or growth,
        publish=chosen.publish,
    )
