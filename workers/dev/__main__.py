"""`make run`: everything Paywright needs, on this machine, until Ctrl-C."""

import contextlib
import os
import sys
from functools import partial
from pathlib import Path

from workers.dev import binaries, privileges, ready, settings, stack, state
from workers.dev.output import Output, complain
from workers.dev.supervisor import WRONG_SETTING, Stop, Supervisor


def main() -> int:
    try:
        chosen = settings.read(Path.cwd(), os.environ)
        os.environ.update(chosen.environ)  # PG_BIN and VALKEY_BIN may stand in .env
        with contextlib.ExitStack() as until_the_end:
            try:
                until_the_end.enter_context(state.held(chosen.data))
            except OSError as error:
                raise settings.Wrong(f"DATA_DIR: {chosen.data}: {error.strerror}") from None
            return run(chosen)
    except (settings.Wrong, binaries.Missing, privileges.NoWay) as wrong:
        complain(str(wrong))
        return WRONG_SETTING
    except (state.Running, binaries.Broken, OSError) as failure:
        complain(str(failure))
        return 1
    except KeyboardInterrupt:  # before there was anything to stop
        return 0


def run(chosen: settings.Settings) -> int:
    ready.forget(chosen)
    state.evict(chosen.data, chosen.root)
    planned = stack.plan(chosen)
    names = [server.name for server in planned.servers] + ["seed", *chosen.processes]
    output = Output(names)
    supervisor = Supervisor(output, partial(state.record, chosen.data))
    end = Stop(0)
    try:
        stack.start_stores(supervisor, planned)
        stack.migrate(planned)
        seed = stack.start_seed(supervisor, planned)
        stack.start_processes(supervisor, planned)
        supervisor.until(lambda: ready.seeded(seed) and ready.healthy(planned))
        ready.announce(output, planned)
        supervisor.forever()
    except Stop as stop:
        end = stop
    finally:
        ready.forget(chosen)
        supervisor.stop()
    if end.reason:
        complain(end.reason)
    return end.code


if __name__ == "__main__":
    sys.exit(main())
