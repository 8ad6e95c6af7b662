"""The routes under /api/dev. Outside a stack of `make run`, and in production, they do not exist."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from falcon import Request
from pydantic import MISSING, Field, model_validator

from actors import audit
from actors.audit import AuditAction
from actors.jobs import transaction
from api.http.fields import Query, RequestBody, invalid
from api.http.operation import Operation, route
from api.security.permissions import Permission
from db import break_it, redis
from db.core.errors import DomainError, ErrorCode, NotFound
from db.core.json_model import Id, JsonModel, Timestamp
from db.states import PaymentStatus

# A flush of a large Redis takes longer than other requests wait for Redis.
_FLUSH_TIMEOUT_S = 5.0

ProcessName = Annotated[str, Field(max_length=50, examples=["psp.1"])]
FaultKind = Literal["kill", "freeze", "flushRedis", "killJob"]
# These can be killed but not frozen: a frozen store answers no request, which proves nothing.
_STORES = ("postgres", "valkey")
# What the journal says about a job that was killed.
_JOB_KILLED = "It failed at no attempt: somebody let it die on the page that breaks things."
_NAMES_A_PROCESS = ("kill", "freeze")


class NewFault(RequestBody):
    """Kills a process (SIGKILL), freezes one for some seconds (SIGSTOP, SIGCONT), or flushes Redis.

    `killJob` makes the job that a payment waits for dead, which takes an hour of failed attempts otherwise.
    """

    fault: FaultKind
    process: ProcessName | MISSING = MISSING
    seconds: Annotated[int, Field(ge=1, le=60)] | MISSING = MISSING
    payment_id: Id | MISSING = MISSING

    @model_validator(mode="after")
    def _names_what_it_needs(self) -> Self:
        if (self.process is MISSING) is (self.fault in _NAMES_A_PROCESS):
            raise invalid("kill and freeze name a process, the others name none")
        if (self.seconds is MISSING) is (self.fault == "freeze"):
            raise invalid("freeze names seconds, the others name none")
        if (self.payment_id is MISSING) is (self.fault == "killJob"):
            raise invalid("killJob names a paymentId, the others name none")
        return self


class StackProcess(JsonModel):
    """A process that can be killed, and whether it can be frozen."""

    name: ProcessName
    pid: Annotated[int, Field(examples=[4711])]
    freezable: bool


class Fault(JsonModel):
    """A fault, and when the process was there again; `newPid` is the one that took its place."""

    at: Timestamp
    fault: FaultKind
    process: ProcessName | None
    pid: Annotated[int | None, Field(examples=[4711])]
    seconds: Annotated[int | None, Field(examples=[10])]
    recovered_at: Timestamp | None
    new_pid: Annotated[int | None, Field(examples=[4712])]


class StackStatus(JsonModel):
    """The processes of this stack, and its faults, the newest first."""

    processes: list[StackProcess]
    faults: list[Fault]


class RunPayment(JsonModel):
    """A payment of a run. `charges` is how often the PSP has charged it, as its own ledger says."""

    id: Id
    simulate: Annotated[str | None, Field(examples=["timeout"])]
    status: PaymentStatus
    failure_code: Annotated[str | None, Field(examples=["insufficient_funds"])]
    needs_review: bool
    calls: Annotated[int, Field(ge=0, examples=[2])]
    charges: Annotated[int, Field(ge=0, examples=[1])]
    created_at: Timestamp
    updated_at: Timestamp


class Run(JsonModel):
    """The payments whose metadata name one `run`, in the order of their creation."""

    id: Annotated[str, Field(examples=["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"])]
    started_at: Timestamp
    payments: list[RunPayment]


class RunsQuery(Query):
    """Which runs."""

    run: Annotated[str, Field(max_length=50)] | None = None


class Runs(JsonModel):
    """Runs, the newest first."""

    items: list[Run]


class LauncherGone(DomainError, code=ErrorCode.SERVICE_UNAVAILABLE, retry_after=5):
    """The launcher of this stack does not listen. Start the stack with `make run`."""


class Stack:
    """The routes of one stack. `data` is the stack's DATA_DIR (see workers/dev/demo/faults.py)."""

    def __init__(self, data: Path, redis_url: str) -> None:
        self._data = data
        self._redis = redis.connect(redis_url, timeout=_FLUSH_TIMEOUT_S)

    @Operation(Permission.OPERATE, "Stack.")
    def get_dev_stack(self, _req: Request) -> StackStatus:
        """Get the processes of this stack and the faults so far."""
        return self._status()

    @Operation(
        Permission.OPERATE,
        "Fault requested.",
        status=202,
        errors=(NotFound, LauncherGone),
        examples={"kill": {"fault": "kill", "process": "psp.1"}, "flush": {"fault": "flushRedis"}},
    )
    def create_dev_fault(self, _req: Request, body: NewFault) -> StackStatus:
        """Break something.

        The launcher kills or freezes a process. It restarts what was killed, and continues what is frozen.
        """
        process = None if body.process is MISSING else body.process
        seconds = None if body.seconds is MISSING else body.seconds
        can_be_hit = {
            each.name for each in self._status().processes if each.freezable or body.fault == "kill"
        }
        if process is not None and process not in can_be_hit:
            raise NotFound(thing="process that this fault can hit")
        with transaction():
            job = None
            if body.payment_id is not MISSING:
                job = break_it.let_job_die(body.payment_id, _JOB_KILLED)
                if job is None:
                    raise NotFound(thing="job of this payment that waits")
            audit.record(
                AuditAction.FAULT_INJECTED,
                resource=("job", job["id"]) if job else None,
                details={"fault": body.fault, "process": process, "seconds": seconds},
            )
        if body.fault == "flushRedis":
            self._redis.flushdb()
        self._ask_launcher({"fault": body.fault, "process": process, "seconds": seconds})
        return self._status()

    @Operation(Permission.OPERATE, "Runs.")
    def list_dev_runs(self, _req: Request, query: RunsQuery) -> Runs:
        """List the runs of the last hour, with what became of their payments and what the PSP has charged."""
        runs: dict[str, list[RunPayment]] = {}
        for payment in break_it.payments(query.run):
            runs.setdefault(payment.pop("run"), []).append(RunPayment(**payment))
        items = [Run(id=id, started_at=paid[0].created_at, payments=paid) for id, paid in runs.items()]
        return Runs(items=items[::-1])

    def _status(self) -> StackStatus:
        """Returns what can be killed (not web, which sends this response), and the faults, newest first."""
        return StackStatus(
            processes=[
                StackProcess(name=name, pid=pid, freezable=name not in _STORES)
                for name, pid in sorted(self._read("pids.json", {}).items())
                if not name.startswith("web.")
            ],
            faults=[Fault(**each) for each in reversed(self._read("faults.json", []))],
        )

    def _read(self, name: str, missing: Any) -> Any:
        try:
            return json.loads((self._data / name).read_text())
        except FileNotFoundError:
            return missing

    def _ask_launcher(self, fault: dict[str, Any]) -> None:
        try:
            pipe = os.open(self._data / "faults", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            raise LauncherGone from None
        try:
            os.write(pipe, json.dumps(fault).encode() + b"\n")
        finally:
            os.close(pipe)


def routes(data: Path, redis_url: str) -> dict[str, Any]:
    """Returns the resources by their paths. `data` is the DATA_DIR of the stack."""
    stack = Stack(data, redis_url)
    return {
        "/api/dev/stack": route(get=stack.get_dev_stack),
        "/api/dev/faults": route(post=stack.create_dev_fault),
        "/api/dev/runs": route(get=stack.list_dev_runs),
    }
