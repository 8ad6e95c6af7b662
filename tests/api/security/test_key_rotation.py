"""JWT_SECRET is rotated in an environment file, one step at a time."""

from datetime import timedelta

import pytest
from dotenv import dotenv_values

from api.security.key_rotation import rotate
from tests.makers import MOMENT as NOON

LATER = NOON + timedelta(minutes=15)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "secrets.env"


def test_a_rotation_keeps_the_other_lines_and_follows_a_link(file, tmp_path):
    link = tmp_path / "link.env"
    file.write_text("JWT_SECRET='a b # c'\nA=1\nJWT_SECRET_OTHER=plain\n")
    link.symlink_to(file)
    rotate("promote", link, NOON)
    assert link.is_symlink()
    assert file.read_text().startswith("JWT_SECRET=plain\nA=1\nJWT_SECRET_OTHER='a b # c'\n")
    rotate("drop", link, LATER)
    assert file.read_text() == "JWT_SECRET=plain\nA=1\nJWT_SECRET_OTHER=\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_an_exported_variable_is_found(file):
    file.write_text("export JWT_SECRET=one\n")
    rotate("add", file, NOON)
    rotate("promote", file, NOON)
    values = dotenv_values(file)
    assert values["JWT_SECRET"] != values["JWT_SECRET_OTHER"] == "one"


def test_what_a_shell_exports_it_exports_after_a_step(file):
    file.write_text("A=1\nexport JWT_SECRET=one\n")
    rotate("add", file, NOON)
    unchanged, signing, other = file.read_text().splitlines()
    assert (unchanged, signing) == ("A=1", "export JWT_SECRET=one")
    assert other.startswith("export JWT_SECRET_OTHER=")


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("JWT_SECRET=one\n", "promote"),
        ("JWT_SECRET=one\n", "drop"),
        ("JWT_SECRET=one\n", "turn"),
        ("OTHER=1\n", "add"),
        ("JWT_SECRET=one\nJWT_SECRET_OTHER=two\n", "add"),
    ],
)
def test_a_step_out_of_order_is_refused(file, text, step):
    file.write_text(text)
    with pytest.raises(ValueError, match="not the next step"):
        rotate(step, file, NOON)
    assert file.read_text() == text


def test_a_secret_that_was_not_promoted_is_not_dropped(file):
    file.write_text("JWT_SECRET=one\n")
    rotate("add", file, NOON)
    with pytest.raises(ValueError, match="not the next step"):
        rotate("drop", file, LATER)


def test_the_old_secret_is_not_dropped_while_its_tokens_are_valid(file):
    file.write_text("JWT_SECRET=one\nJWT_SECRET_OTHER=two\n")
    rotate("promote", file, NOON)
    with pytest.raises(ValueError, match="for 1 more seconds"):
        rotate("drop", file, LATER - timedelta(seconds=1))
    rotate("drop", file, LATER)
    assert dotenv_values(file)["JWT_SECRET"] == "two"
