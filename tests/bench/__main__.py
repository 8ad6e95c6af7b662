"""`make bench`: measures the stack on this machine, beside its peer and the machine's limits."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench import calls, growing, machine, options, page, settling
from tests.bench.load import LoadFailed
from tests.bench.options import BESIDE, WHOLE, Options
from tests.bench.stack import Stores, stores

RESULTS = Path(".data/bench/results.json")


def main() -> int:
    """Runs the chosen measures and writes their figures. Returns 1 if a response was wrong."""
    chosen = options.parse()
    figures = machine.describe() | {"options": chosen.described()}
    try:
        with (
            TemporaryDirectory(prefix="paywright-bench-") as folder,
            stores(Path(folder, "stores")) as running,
        ):
            measure(running, Path(folder), chosen, figures)
    except LoadFailed as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    sys.stdout.write(page.table(figures))
    if chosen.publish:
        page.publish(figures, Path("docs"))
    return 0


def measure(running: Stores, directory: Path, chosen: Options, figures: dict[str, Any]) -> None:
    """Adds the figures of each chosen measure. Raises LoadFailed."""
    if any(map(chosen.wants, BESIDE)):
        with calls.beside(running, directory) as side:
            if chosen.wants("calls"):
                figures["calls"] = side.calls(chosen)
            if chosen.wants("storm"):
                figures["storm"] = side.storm(chosen)
            figures["resident"] = side.resident_mb()
    if any(map(chosen.wants, WHOLE)):
        with settling.whole(running, directory) as whole:
            if chosen.wants("idle"):
                figures["latency"] = whole.latency(chosen.payments)
                figures["idle"] = whole.idle(chosen.idle_seconds)
            if chosen.wants("settling"):
                figures["settling"] = settling.rounds(whole, chosen)
            figures["resident"] = whole.processes.resident_mb()
            if chosen.wants("snapshot"):
                figures["snapshot"] = growing.hold_snapshot(whole, chosen)
            if chosen.wants("growth"):
                figures["growth"] = growing.grow(whole, chosen)


if __name__ == "__main__":
    sys.exit(main())
