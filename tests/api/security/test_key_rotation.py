"""The rotation of the signing secret, step by step in an environment file."""

import subprocess
import sys
from datetime import timedelta

import pytest
from dotenv import dotenv_values

from api.security.key_rotation import rotate
from tests.makers import MOMENT as NOON

LATER = NOON + timedelta(minutes=15)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "secrets.env"


def test_values_change_places_as_they_are_written_and_a_link_is_followed(file, tmp_path):
    link = tmp_path / "link.env"
    file.write_text("JWT_SECRET='a b # c'\nA=1\nJWT_SECRET_OTHER=plain\n")
    link.symlink_to(file)
    rotate("promote", link, NOON)
    assert link.is_symlink()
    assert file.read_text().startswith("A=1\n")
    assert file.read_text().endswith("JWT_SECRET=plain\nJWT_SECRET_OTHER='a b # c'\n")
    rotate("drop", link, LATER)
    assert file.read_text() == "A=1\nJWT_SECRET=plain\nJWT_SECRET_OTHER=\n"


def test_lines_that_a_shell_exports_are_understood(file):
    file.write_text("export JWT_SECRET=one\n")
    rotate("add", file, NOON)
    rotate("promote", file, NOON)
    values = dotenv_values(file)
    assert values["JWT_SECRET"] != values["JWT_SECRET_OTHER"] == "one"


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


def test_a_new_secret_that_signs_nothing_yet_is_not_dropped(file):
    file.write_text("JWT_SECRET=one\n")
    rotate("add", file, NOON)
    with pytest.raises(ValueError, match="not the next step"):
        rotate("drop", file, LATER)


def test_the_old_secret_is_not_dropped_as_long_as_its_tokens_live(file):
    file.write_text("JWT_SECRET=one\nJWT_SECRET_OTHER=two\n")
    rotate("promote", file, NOON)
    with pytest.raises(ValueError, match="for 1 more seconds"):
        rotate("drop", file, LATER - timedelta(seconds=1))
    rotate("drop", file, LATER)
    assert dotenv_values(file)["JWT_SECRET"] == "two"


def test_the_command_says_what_to_do_next(file, root):
    file.write_text("JWT_SECRET=one\n")
    command = [sys.executable, "-m", "api.security.key_rotation"]

    def run(step: str) -> tuple[int, str, str]:
        ran = subprocess.run([*command, step, file], cwd=root, capture_output=True, text=True, check=False)
        return ran.returncode, ran.stdout, ran.stderr

    assert run("add") == (0, "A second secret was added. Restart the web processes, then: promote\n", "")
    code, _, said = run("drop")
    assert (code, said.startswith("drop is not the next step")) == (1, True)
