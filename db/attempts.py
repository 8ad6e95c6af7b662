"""Failures to sign in, by address: whether there is an account behind it makes no difference here."""

from datetime import datetime

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class SignInFailure(postgres.Model):
    """How often in a row signing in with an address has failed, and when last."""

    address = peewee.CharField(64, primary_key=True)
    failures = peewee.IntegerField()
    failed_at = DateTimeTZField()

    class Meta:
        schema = "auth"
        table_name = "sign_in_failures"


SignInFailure.add_index(SQL("CREATE INDEX sign_in_failures_failed_at ON auth.sign_in_failures (failed_at)"))


# Folded by the database, as it compares addresses: one account must not have many counts.
_ADDRESS = "encode(sha256(convert_to(lower(%s), 'UTF8')), 'hex')"


def failures(who: str) -> tuple[int, datetime] | None:
    """How often it has failed, and when last; None when it has not."""
    found = postgres.rows(
        f"SELECT failures, failed_at FROM auth.sign_in_failures WHERE address = {_ADDRESS}", who.strip()
    )
    return (found[0]["failures"], found[0]["failed_at"]) if found else None


def take_turn(who: str, failed_at: datetime, now: datetime) -> bool:
    """Takes the one attempt that the end of a wait allows: of many at once, one gets it."""
    return bool(
        postgres.rows(
            f"UPDATE auth.sign_in_failures SET failed_at = %s WHERE address = {_ADDRESS} AND failed_at = %s"
            " RETURNING failures",
            now,
            who.strip(),
            failed_at,
        )
    )


def failed(who: str, now: datetime, *, forgotten: datetime) -> None:
    """One more failure; what failed last before `forgotten` no longer counts."""
    postgres.rows(
        f"INSERT INTO auth.sign_in_failures AS f (address, failures, failed_at) VALUES ({_ADDRESS}, 1, %s)"
        " ON CONFLICT (address) DO UPDATE SET failed_at = EXCLUDED.failed_at,"
        " failures = CASE WHEN f.failed_at < %s THEN 1 ELSE f.failures + 1 END",
        who.strip(),
        now,
        forgotten,
    )


def succeeded(who: str) -> None:
    """Forgets the failures."""
    postgres.rows(f"DELETE FROM auth.sign_in_failures WHERE address = {_ADDRESS}", who.strip())


def expire(before: datetime) -> int:
    """Deletes what failed last before this moment; how many addresses."""
    return int(postgres.delete(SignInFailure).where(SignInFailure.failed_at < before).execute())
