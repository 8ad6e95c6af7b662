"""An administrator sees what waits or is dead, repairs it, pauses a queue."""

from uuid import uuid4

from actors import event_handlers
from api.console.client import Api
from db import config, job_journal, postgres
from tests import makers
from tests.api.console.browsers import Browser
from tests.makers import work
from tests.tables import JobRow, MissedEvent

MAILS = event_handlers.SUBSCRIBERS[0].name


def dead_job() -> str:
    """A job that failed at every attempt."""
    payment = makers.payment()
    id = job_journal.id_for_key("payments.begin", str(payment.id))
    postgres.rows(
        "UPDATE journal.jobs SET error = 'it <broke>', attempts = 20, dead_at = clock_timestamp() WHERE id = %s",
        id,
    )
    return str(id)


def row(id: str) -> JobRow | None:
    found: JobRow | None = JobRow.get_or_none(JobRow.id == id)
    return found


def act(browser: Browser, act: str, **fields: str):
    return browser.post("/console/jobs", {"act": act, "next": "/console/jobs?state=dead", **fields})


def test_dead_jobs_come_first_with_their_error(admin):
    id = dead_job()
    makers.payment()
    page = admin.get("/console/jobs").text
    assert page.index("Dead jobs") < page.index(f"/console/jobs/{id}") < page.index("All jobs, newest first")
    assert "it &lt;broke&gt;" in page
    assert "it <broke>" not in page
    assert "Retry all 1 of payments.begin" in page


def test_the_list_is_narrowed_down(admin):
    id = dead_job()
    page = admin.get("/console/jobs?state=waiting").text
    assert id not in page
    assert id in admin.get("/console/jobs?state=dead&queue=payments").text
    refused = admin.get("/console/jobs?paymentId=7")
    assert refused.status_code == 400
    assert 'aria-invalid="true"' in refused.text


def test_a_dead_job_is_retried(admin):
    id = dead_job()
    result = act(admin, "retry", id=id)
    assert (result.status_code, result.headers["Location"]) == (303, "/console/jobs?state=dead")
    job = row(id)
    assert job is not None
    assert job.dead_at is None
    assert "due now" in admin.get("/console/jobs").text
    # A second administrator comes too late, and reads why.
    late = act(admin, "retry", id=id)
    assert late.status_code == 409
    assert "This job is waiting." in late.text


def test_a_dead_job_is_dropped(admin):
    id = dead_job()
    assert act(admin, "drop", id=id).status_code == 303
    assert row(id) is None
    assert act(admin, "drop", id=id).status_code == 404


def test_all_dead_jobs_of_a_name_are_retried(admin):
    ids = [dead_job(), dead_job()]
    assert act(admin, "retry-all", name="payments.begin").status_code == 303
    assert [job.dead_at for id in ids if (job := row(id))] == [None, None]
    assert "2 dead jobs of payments.begin" in admin.get("/console/jobs").text


def test_a_queue_is_paused_and_resumed(admin):
    for queue in ("mail", "psp"):
        assert act(admin, "pause", queue=queue).status_code == 303
    assert config.paused_queues() == {"mail", "psp"}
    act(admin, "resume", queue="mail")
    assert config.paused_queues() == {"psp"}
    assert act(admin, "pause", queue="nope").status_code == 400


def test_a_queue_that_another_administrator_pauses_at_this_moment_stays_paused(admin, monkeypatch):
    send, others = Api.put, ["psp"]

    def put(api: Api, path: str, body: dict[str, list[str]], **headers: str):
        if others:
            send(api, path, {"queues.paused": [others.pop()]})
        return send(api, path, body, **headers)

    monkeypatch.setattr(Api, "put", put)
    act(admin, "pause", queue="mail")
    assert config.paused_queues() == {"mail", "psp"}


def test_missed_events_are_retried_and_dropped(admin):
    makers.payment()
    makers.payment()
    work()
    query = "SELECT seq FROM admin.events WHERE type = 'payments:payment:completed' ORDER BY seq"
    one, two = (str(event["seq"]) for event in postgres.rows(query))
    for seq in (one, two):
        MissedEvent.insert(name=MAILS, seq=seq, error="it broke").execute()
    assert "it broke" in admin.get("/console/jobs").text
    assert act(admin, "drop-event", subscriber=MAILS, seq=one).status_code == 303
    assert act(admin, "retry-event", subscriber=MAILS, seq=two).status_code == 303
    assert MissedEvent.select().count() == 0
    assert act(admin, "retry-event", subscriber=MAILS, seq=two).status_code == 404
    MissedEvent.insert(name=MAILS, seq=one, error="it broke").execute()
    assert act(admin, "retry-events", subscriber=MAILS).status_code == 303
    assert MissedEvent.select().count() == 0


def test_one_job_is_shown_with_its_arguments(admin):
    id = dead_job()
    page = admin.get(f"/console/jobs/{id}").text
    assert "paymentId" in page
    assert "payments.begin" in page
    assert admin.get(f"/console/jobs/{uuid4()}").status_code == 404
