"""Failures to sign in, by address: whether there is an account behind it makes no difference here."""

import hashlib
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


def failures(email: str) -> tuple[int, datetime] | None:
    """How often it has failed, and when last; None when it has not."""
    found = SignInFailure.get_or_none(SignInFailure.address == _address(email))
    return (found.failures, found.failed_at) if found else None


def failed(email: str, now: datetime, *, forgotten: datetime) -> None:
    """One more failure; what failed last before `forgotten` no longer counts."""
    postgres.rows(
        "INSERT INTO auth.sign_in_failures AS f (address, failures, failed_at) VALUES (%s, 1, %s)"
        " ON CONFLICT (address) DO UPDATE SET failed_at = EXCLUDED.failed_at,"
        " failures = CASE WHEN f.failed_at < %s THEN 1 ELSE f.failures + 1 END",
        _address(email),
        now,
        forgotten,
    )


def succeeded(email: str) -> None:
    """Forgets the failures."""
    SignInFailure.delete().where(SignInFailure.address == _address(email)).execute()


def expire(before: datetime) -> int:
    """Deletes what failed last before this moment; how many addresses."""
    return int(SignInFailure.delete().where(SignInFailure.failed_at < before).execute())


def _address(email: str) -> str:
    return hashlib.sha256(email.strip().lower().encode()).hexdigest()
