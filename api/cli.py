"""The command line for operators: `python -m api.cli --help` lists the commands.

The commands use the stores that the environment names, as every process does: DATABASE_URL, REDIS_URL,
and for accounts JWT_SECRET and PASSWORD_PEPPER. Status 0: done; 1: refused, or found broken; 2: misused, or a
setting is invalid.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, get_args
from uuid import UUID

import click
from pydantic import ValidationError

import db.core.lean_imports  # noqa: F401
from actors import audit, job_operations
from actors.event_handlers import SUBSCRIBERS
from api import systemd_units
from api.security import key_rotation
from api.settings import WebSettings
from db import listed_jobs, migrate, postgres
from db.core import logs, times
from db.core.errors import DomainError
from db.core.settings import InvalidSetting, StoreSettings
from db.users import Role

if TYPE_CHECKING:
    from api.security.passwords import Passwords

# The application needs these settings to be built. The document does not depend on their values, and no
# connection is opened.
_ANY_SETTINGS = dict.fromkeys(("JWT_SECRET", "PASSWORD_PEPPER"), "-") | {
    "DATABASE_URL": "postgresql://",
    "REDIS_URL": "redis://",
}


class _Group(click.Group):
    """A group of commands that ends with one line for an error that its user can correct."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidSetting as error:
            click.echo(error, err=True)
            ctx.exit(2)
        except ValidationError as error:
            raise click.ClickException(
                "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
            ) from None
        except postgres.TRANSIENT_ERRORS as error:
            raise click.ClickException(f"the database is not available: {str(error).strip()}") from None
        except (DomainError, ValueError, OSError, migrate.EditedMigration) as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group)
def main() -> None:
    """Operate Paywright. Every command reads its settings from the environment, as the processes do."""


@main.command(name="migrate")
def migrate_command() -> None:
    """Bring the database up to date. Safe to run from several machines at once."""
    for name in migrate.up(StoreSettings.read().database_url):
        click.echo(f"applied {name}")


@main.command()
@click.argument("email")
@click.option("--name", default="Admin", show_default=True, help="The name of the administrator.")
def create_admin(email: str, name: str) -> None:
    """Create an administrator. The password is prompted for, or read as one line from standard input."""
    from api import accounts  # noqa: PLC0415

    passwords = _passwords()
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    account = accounts.NewAccount(email=email, name=name, password=password)
    user = accounts.create_verified(passwords, account, Role.ADMIN)
    click.echo(f"created {user.email}")


@main.command()
def seed() -> None:
    """Create the demo users that do not exist yet. Refused in production: their password is public."""
    from api import demo_users  # noqa: PLC0415

    demo_users.seed_demo_users(_passwords(), app_env=_open_stores().app_env)


@main.command()
def suspend_demo_users() -> None:
    """Suspend the demo users and end their sessions, where a developer's database goes to production."""
    from api import demo_users  # noqa: PLC0415

    _open_stores()
    demo_users.suspend_demo_users()


def _absolute(ctx: click.Context, param: click.Parameter, value: Path) -> PurePosixPath:
    """Checks that a path is absolute, of words that systemd leaves as they are."""
    if not re.fullmatch(r"(/[\w.@+-]+)+", str(value)):
        message = f"{value} is not an absolute path of letters, digits and ._@+-"
        raise click.BadParameter(message, ctx, param)
    return PurePosixPath(value)


@main.command()
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.option("--user", default="paywright", show_default=True, help="Who runs the processes.")
@click.option(
    "--dir", "directory", callback=_absolute, default=Path.cwd, help="The checkout, with its .venv."
)
@click.option(
    "--env",
    "environment",
    callback=_absolute,
    default="/etc/paywright",
    show_default=True,
    help="Where paywright.env is, and an optional file for each type of process, such as web.env.",
)
def systemd(target: Path, user: str, directory: PurePosixPath, environment: PurePosixPath) -> None:
    """Write units of systemd for the lines of the Procfile into the directory TARGET."""
    target.mkdir(parents=True, exist_ok=True)
    written = systemd_units.units(user=user, directory=directory, environment=environment)
    for name, text in written.items():
        (target / name).write_text(text)
    services = " ".join(name.replace("@", "@1") for name in written if name != systemd_units.TARGET)
    click.echo(f"systemctl enable --now {systemd_units.TARGET} {services}")


@main.group()
def jobs() -> None:
    """List, retry or drop jobs."""


@jobs.command(name="list")
@click.option("--state", type=click.Choice(get_args(listed_jobs.JobState)), default="dead", show_default=True)
@click.option("--name", help="Only jobs of this name, such as payments.charge.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
def list_jobs(state: listed_jobs.JobState, name: str | None, limit: int) -> None:
    """List jobs in one state, the newest first: id, name, attempts, due time, last error."""
    _open_stores()
    with postgres.connection():
        wanted = listed_jobs.Filter(name=name, state=state)
        found = listed_jobs.page(wanted, limit=limit, after=None, job_names=())
        if not found.items:
            click.echo(f"no {state} jobs", err=True)
        for job in found.items:
            due = times.iso(job.due_at)
            click.echo(
                f"{job.id}  {job.name}  attempts={job.attempts}  due={due}  {job.error or ''}".rstrip()
            )


@jobs.command()
@click.argument("ids", metavar="[ID]...", type=click.UUID, nargs=-1)
@click.option("--name", help="All dead jobs of this name.")
@click.option("--all", "every", is_flag=True, help="All dead jobs.")
@click.pass_context
def retry(ctx: click.Context, ids: tuple[UUID, ...], name: str | None, every: bool) -> None:
    """Give dead jobs a new set of attempts. A failed job that is named by its id is due at once.

    Ends with status 1 if a job named by its id cannot be retried.
    """
    if bool(ids) + bool(name) + every != 1:
        raise click.UsageError("name jobs by their ids, by --name, or all of them by --all")
    _open_stores()
    count = _repaired(job_operations.retry, ids) if ids else job_operations.retry_dead(name)
    click.echo(f"jobs that will be retried: {count}")
    if count < len(ids):
        ctx.exit(1)


@jobs.command()
@click.argument("ids", metavar="ID...", type=click.UUID, nargs=-1, required=True)
@click.confirmation_option(prompt="The work of these jobs will never be done. Drop them?")
@click.pass_context
def drop(ctx: click.Context, ids: tuple[UUID, ...]) -> None:
    """Delete dead jobs. Ends with status 1 if a job cannot be dropped."""
    _open_stores()
    count = _repaired(job_operations.drop, ids)
    click.echo(f"jobs dropped: {count}")
    if count < len(ids):
        ctx.exit(1)


def _repaired(repair: Callable[[UUID], None], ids: Sequence[UUID]) -> int:
    """Repairs each job, and says which ones it cannot repair, and why; returns how many it repaired."""
    repaired = 0
    for id in ids:
        try:
            repair(id)
            repaired += 1
        except DomainError as refusal:
            click.echo(f"{id}: {refusal}", err=True)
    return repaired


@main.group()
def events() -> None:
    """Replay events that a subscriber gave up."""


@events.command()
@click.pass_context
def replay(ctx: click.Context) -> None:
    """Handle the events that subscribers gave up, out of order, at most 1,000 of each.

    Ends with status 1 if one fails again.
    """
    _open_stores()
    outcomes = [job_operations.retry_missed_events(each.name) for each in SUBSCRIBERS]
    click.echo(f"events handled: {sum(handled for handled, _ in outcomes)}")
    if failed := sum(failed for _, failed in outcomes):
        click.echo(f"events that failed again: {failed}", err=True)
        ctx.exit(1)


@main.group(name="audit")
def audit_commands() -> None:
    """Verify the audit log."""


@audit_commands.command()
@click.pass_context
def verify(ctx: click.Context) -> None:
    """Verify the hash chain of the whole audit log. Ends with status 1 if it is broken."""
    _open_stores()
    with postgres.connection():
        found = audit.verify()
    if (broken := found.broken) is None:
        click.echo(f"the audit log is intact: {found.rows} rows")
        return
    click.echo(f"the audit log is broken after {found.rows} rows, at {broken.id}: {broken.reason}", err=True)
    ctx.exit(1)


@main.group()
def keys() -> None:
    """Rotate the secret that signs access tokens."""


@keys.command()
@click.argument("step", type=click.Choice(list(key_rotation.NEXT_STEP)))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, writable=True, path_type=Path))
def rotate(step: str, file: Path) -> None:
    """Take one step of the rotation in the environment FILE: add, promote, then drop.

    Restart the web processes after each step, one after the other; no token is refused in between.
    """
    key_rotation.rotate(step, file, times.now())
    click.echo(key_rotation.NEXT_STEP[step])


@main.command()
def openapi() -> None:
    """Print the OpenAPI document of the routes, as docs/openapi.json has it."""
    _print_document("openapi")


@main.command()
def asyncapi() -> None:
    """Print the AsyncAPI document of the events, as docs/asyncapi.json has it."""
    _print_document("asyncapi")


def _print_document(name: str) -> None:
    # The document is made by a request, whose line of the access log would go to standard output as well.
    logs.configure("CRITICAL")
    click.echo(served_document(name), nl=False)


def served_document(name: str) -> str:
    """Returns `openapi` or `asyncapi` as the application serves it, indented for readers and `git diff`."""
    # Imported here, so that the other commands do not wait for the whole application.
    from falcon import testing  # noqa: PLC0415

    from api.app import create_app  # noqa: PLC0415

    client = testing.TestClient(create_app(WebSettings.read(_ANY_SETTINGS)))
    served = client.simulate_get(f"/api/{name}.json")
    return json.dumps(served.json, indent=2, ensure_ascii=False) + "\n"


def _open_stores() -> StoreSettings:
    """Reads the settings from the environment and configures the database."""
    settings = StoreSettings.read()
    # Standard output is for the result of the command, which the log would mix with.
    logs.configure("CRITICAL")
    # Two: a command may need a second connection while it holds one.
    postgres.configure(settings.database_url, connections=2)
    return settings


def _passwords() -> "Passwords":
    # Imported here, as the accounts are: loading the dictionaries of passwords takes a third of a command.
    from api.security.passwords import Passwords  # noqa: PLC0415

    settings = WebSettings.read()
    _open_stores()
    return Passwords(pepper=settings.password_pepper, rounds=settings.bcrypt_rounds)


if __name__ == "__main__":
    main(prog_name="python -m api.cli")
