"""What the PSP did in the last hour, for the board."""

from typing import Annotated

from falcon import Request
from pydantic import Field

from api.http.admission import Busy, Shared
from api.http.operation import Operation
from api.security.permissions import Permission
from db import postgres, psp_attempts
from db.core.json_model import JsonModel
from db.psp_attempts import PspActivity, PspResult

# The figures of an hour may be reused for ten times as long as they took, and for a second at least.
_FRESH_S, _REUSE_FACTOR = 1.0, 10


class PspStatus(JsonModel):
    """The calls of the last hour by outcome, and how long they took.

    A call that has not ended is `under_way`, or `interrupted` if its process died. `approvalRate` is the
    share of charged ones among the PSP's decisions, null without any. `unknown` counts payments whose last
    call had no answer, up to 10,000: they are inquired about until the PSP answers.
    """

    outcomes: Annotated[dict[str, int], Field(examples=[{"charged": 120, "declined": 3, "no_answer": 1}])]
    approval_rate: Annotated[float | None, Field(ge=0, le=1, examples=[0.975])]
    p50_ms: Annotated[float | None, Field(ge=0, examples=[80.5])]
    p95_ms: Annotated[float | None, Field(ge=0, examples=[310.0])]
    unknown: Annotated[int, Field(ge=0, examples=[0])]


class Psp:
    """GET /admin/psp."""

    def __init__(self) -> None:
        self._activity = Shared(_measure, fresh=lambda took: max(_FRESH_S, _REUSE_FACTOR * took))

    @Operation(Permission.OPERATE, "PSP.", name="getPspStatus", errors=(Busy,))
    def on_get(self, _req: Request) -> PspStatus:
        """Get what the PSP did in the last hour."""
        activity = self._activity.get()
        charged = activity.outcomes.get(PspResult.CHARGED, 0)
        decided = charged + activity.outcomes.get(PspResult.DECLINED, 0)
        return PspStatus(
            outcomes=activity.outcomes,
            approval_rate=charged / decided if decided else None,
            p50_ms=None if activity.p50_ms is None else round(activity.p50_ms, 1),
            p95_ms=None if activity.p95_ms is None else round(activity.p95_ms, 1),
            unknown=activity.unknown,
        )


def _measure() -> PspActivity:
    with postgres.connection():
        return psp_attempts.recent_activity()
