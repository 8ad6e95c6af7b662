"""The command line does what an operator asks, says so in one line, and leaves an audit entry."""

import subprocess
import sys
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result
from dotenv import dotenv_values

from actors import event_handlers, mail
from api import cli
from db import audit_log, migrate, postgres, users
from db.core.settings import StoreSettings
from db.users import Role
from tests import makers
from tests.makers import PASSWORD, SECRETS, work
from tests.tables import JobRow, MissedEvent


@pytest.fixture
def command(stores, database, monkeypatch):
    """Runs a command in this thread, within the test's transaction."""
    monkeypatch.setattr(cli, "_open_stores", StoreSettings.read)

    def run(*words: str, env: dict[str, str] | None = None, input: str | None = None) -> Result:
        return CliRunner().invoke(cli.main, words, input, env={**SECRETS, **stores, **(env or {})})

    return run


def actions(action: str) -> list[str]:
    work()
    rows = audit_log.AuditLog.select().where(audit_log.AuditLog.action == action)
    return [row.details.get("job", "") for row in rows]


def dead_job() -> JobRow:
    payment = makers.payment()
    row = JobRow.get(JobRow.name == "payments.begin")
    JobRow.update(dead_at=makers.MOMENT, error="it broke").where(JobRow.id == row.id).execute()
    assert payment.status == "pending"
    return row


def test_every_command_has_a_help_text(command):
    def texts(group, *path: str):
        for name, found in group.commands.items():
            yield command(*path, name, "--help")
            if hasattr(found, "commands"):
                yield from texts(found, *path, name)

    for shown in texts(cli.main):
        assert shown.exit_code == 0
        assert len(shown.output.splitlines()) > 3


def test_a_wrong_setting_is_one_line_and_status_2(command):
    result = command("jobs", "list", env={"DATABASE_URL": "mysql://"})
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "DATABASE_URL" in result.stderr


def test_a_migrated_database_is_left_as_it_is(command, postgres_server):
    assert migrate.up(postgres_server.url) == []
    result = command("migrate")
    assert (result.exit_code, result.output) == (0, "")


def test_a_database_that_is_unreachable_is_one_line(command):
    result = command("migrate", env={"DATABASE_URL": "postgresql://127.0.0.1:1/none"})
    assert (result.exit_code, result.stderr.count("Traceback")) == (1, 0)
    assert result.stderr.startswith("Error: the database is not available: ")


def test_the_first_administrator_comes_from_a_command(command):
    email = makers.address()
    result = command("create-admin", email, "--name", "Ada", input=f"{PASSWORD}\n")
    assert (result.exit_code, result.stdout) == (0, f"created {email}\n")
    admin = users.by_email(email)
    assert admin is not None
    assert (admin.role, admin.name, admin.email_verified) == (Role.ADMIN, "Ada", True)


@pytest.mark.parametrize(
    ("email", "password", "message"),
    [("nobody", PASSWORD, "email: "), ("ada@example.com", "short", "password: ")],
)
def test_a_bad_address_or_password_makes_no_administrator(command, email, password, message):
    result = command("create-admin", email, input=f"{password}\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


def test_demo_users_are_refused_in_production(command):
    result = command("seed", env={"APP_ENV": "production"})
    assert result.exit_code == 2
    assert result.stderr


def test_dead_jobs_are_listed_with_what_killed_them(command):
    job = dead_job()
    assert command("jobs", "list").stdout.startswith(f"{job.id}  payments.begin  attempts=0  due=")
    assert "it broke" in command("jobs", "list", "--name", "payments.begin").stdout
    assert command("jobs", "list", "--name", "payments.charge").stdout == ""
    assert "payments.begin" not in command("jobs", "list", "--state", "waiting").stdout


@pytest.mark.parametrize("how", ["id", "--name", "--all"])
def test_a_dead_job_is_retried_and_audited(command, how):
    job = dead_job()
    words = {"id": [str(job.id)], "--name": ["--name", job.name], "--all": ["--all"]}[how]
    result = command("jobs", "retry", *words)
    assert result.stdout == "jobs that will be retried: 1\n"
    assert "payments.begin" in work()
    assert actions("admin.job.retried") == ["" if how == "--all" else "payments.begin"]


def test_which_jobs_are_retried_has_to_be_said(command):
    assert command("jobs", "retry").exit_code == 2
    assert command("jobs", "retry", "7").exit_code == 2


def test_a_job_that_cannot_be_retried_ends_the_command_with_status_1(command):
    job, unknown = dead_job(), uuid4()
    result = command("jobs", "retry", str(unknown), str(job.id))
    assert (result.exit_code, result.stdout) == (1, "jobs that will be retried: 1\n")
    assert result.stderr == f"{unknown}: There is no such job.\n"


def test_a_dead_job_is_dropped_after_a_confirmation(command):
    job = dead_job()
    assert command("jobs", "drop", str(job.id), input="n\n").exit_code == 1
    assert JobRow.get_or_none(JobRow.id == job.id)
    result = command("jobs", "drop", str(job.id), "--yes")
    assert result.stdout == "jobs dropped: 1\n"
    assert JobRow.get_or_none(JobRow.id == job.id) is None
    assert actions("admin.job.dropped") == ["payments.begin"]


def test_a_job_that_is_not_dead_is_never_dropped(command):
    makers.payment()
    job = JobRow.get(JobRow.name == "payments.begin")
    result = command("jobs", "drop", str(job.id), "--yes")
    assert (result.exit_code, result.stdout) == (1, "jobs dropped: 0\n")
    assert result.stderr == f"{job.id}: This job is waiting. Only a dead job can be dropped.\n"


def test_missed_events_are_replayed_and_audited(command):
    makers.payment()
    work()
    [ended] = postgres.rows(
        "SELECT max(seq) AS seq FROM admin.events WHERE type = 'payments:payment:completed'"
    )
    name = event_handlers.SUBSCRIBERS[0].name
    MissedEvent.insert(name=name, seq=ended["seq"], error="it broke").execute()
    assert command("events", "replay").stdout == "events handled: 1\n"
    assert MissedEvent.select().count() == 0
    assert actions("admin.events.replayed") == [""]


def test_an_event_that_fails_again_ends_the_replay_with_status_1(command, monkeypatch):
    makers.payment()
    work()
    seq = postgres.value("SELECT max(seq) FROM admin.events WHERE type = 'payments:payment:completed'")
    MissedEvent.insert(name=event_handlers.SUBSCRIBERS[0].name, seq=seq, error="it broke").execute()

    def fail(*_args: object, **_keywords: object) -> None:
        raise RuntimeError("it broke again")

    monkeypatch.setattr(mail, "notice_job", fail)
    result = command("events", "replay")
    assert (result.exit_code, result.stdout) == (1, "events handled: 0\n")
    assert result.stderr == "events that failed again: 1\n"
    assert MissedEvent.get().error == "RuntimeError: it broke again"


def test_the_audit_log_is_verified_by_a_command(command):
    makers.payment()
    work()
    assert command("audit", "verify").stdout.startswith("the audit log is intact: ")
    postgres.rows("SET LOCAL session_replication_role = replica")
    postgres.rows(
        "UPDATE admin.audit_logs SET details = '{}' WHERE seq = (SELECT max(seq) FROM admin.audit_logs)"
    )
    postgres.rows("SET LOCAL session_replication_role = origin")
    result = command("audit", "verify")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "broken" in result.stderr


def test_a_step_of_the_rotation_says_what_comes_next(command, tmp_path):
    file = tmp_path / "secrets.env"
    file.write_text("JWT_SECRET=one\n")
    added = command("keys", "rotate", "add", str(file))
    assert added.stdout == "A second secret was added. Restart the web processes, then: promote\n"
    assert dotenv_values(file)["JWT_SECRET_OTHER"]
    early = command("keys", "rotate", "drop", str(file))
    assert early.exit_code == 1
    assert "drop is not the next step" in early.stderr
    promoted = command("keys", "rotate", "promote", str(file))
    assert "Restart the web processes, wait 15 minutes, then: drop" in promoted.stdout


def test_it_is_started_as_a_module(root):
    command = [sys.executable, "-m", "api.cli", "jobs", "rtry"]
    started = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert (started.returncode, started.stdout) == (2, "")
    assert "No such command 'rtry'" in started.stderr
