"""What the installation did in each quarter of a minute of the last day, for plots."""

from typing import Annotated

from falcon import Request
from pydantic import Field

from api.http.fields import Digits, Query
from api.http.operation import Operation
from api.security.permissions import Permission
from db import samples
from db.core import times
from db.core.json_model import JsonModel, Timestamp


class SamplesQuery(Query):
    """How far back the samples go."""

    minutes: Annotated[int, Digits] = Field(60, ge=1, le=24 * 60)


class Sample(JsonModel):
    """What the whole installation did in the 15 seconds until `at`. Null: not known.

    `errors` counts responses with a 5xx status, `p95Ms` is the 95th percentile of the durations of requests,
    null without any. `settled` counts payments that completed or failed, `lagMs` is for how long the oldest
    job or event has waited.
    """

    at: Timestamp
    requests: Annotated[int | None, Field(ge=0, examples=[120])]
    errors: Annotated[int | None, Field(ge=0, examples=[0])]
    p95_ms: Annotated[float | None, Field(ge=0, examples=[12.5])]
    settled: Annotated[int | None, Field(ge=0, examples=[30])]
    lag_ms: Annotated[int | None, Field(ge=0, examples=[0])]


class Samples(JsonModel):
    """One sample for each 15 seconds, oldest first."""

    items: list[Sample]


class RecentSamples:
    """GET /admin/samples."""

    @Operation(Permission.OPERATE, "Samples.", name="listSamples")
    def on_get(self, _req: Request, query: SamplesQuery) -> Samples:
        """List samples of the last minutes.

        Samples are kept for a day. Those of a time without a scheduler are missing; those of a time without
        Redis have no figures about requests.
        """
        return Samples(
            items=[Sample.from_record(sample) for sample in samples.latest(query.minutes, times.now())]
        )
