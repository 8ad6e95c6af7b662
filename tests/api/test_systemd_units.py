"""The units of systemd that a command writes for the Procfile."""

import configparser
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from api import cli


class Unit(configparser.RawConfigParser):
    """A unit; of a setting that is given twice the values are lines."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, dict_type=_Lines, empty_lines_in_values=False)
        self.optionxform = str  # type: ignore[assignment, method-assign]
        self.read_string(path.read_text())


class _Lines(dict[str, Any]):
    def __setitem__(self, key: str, value: Any) -> None:
        known = self.get(key)
        super().__setitem__(
            key, [*known, *value] if isinstance(known, list) and isinstance(value, list) else value
        )


@pytest.fixture
def written(root, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(root)
    arguments = [
        "systemd",
        str(tmp_path / "units"),
        "--user",
        "root",
        "--dir",
        str(root),
        "--env",
        str(tmp_path),
    ]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 0, result.output
    (tmp_path / "paywright.env").touch()
    return tmp_path / "units"


def test_each_line_of_the_procfile_is_a_service_with_its_command(root, written):
    lines = [line.split(": ") for line in (root / "Procfile").read_text().splitlines() if line[:1] != "#"]
    for name, command in lines:
        service = Unit(written / f"paywright-{name}@.service")["Service"]
        assert service["ExecStart"] == f"{root}/.venv/bin/{command}"
        assert service["Environment"].split()[0] == f"PROCESS_NAME={name}.%i"
        assert service["User"] == "root"
        assert int(service["TimeoutStopSec"]) >= 30
    assert len(list(written.glob("*.service"))) == len(lines)


def test_a_web_process_weighs_ten_workers(written):
    weights = {path.name: Unit(path)["Service"]["CPUWeight"] for path in written.glob("*.service")}
    assert weights.pop("paywright-web@.service") == "1000"
    assert set(weights.values()) == {"100"}


def test_the_command_names_what_to_enable(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    result = CliRunner().invoke(cli.main, ["systemd", str(tmp_path), "--dir", "/srv/paywright"])
    assert result.output.startswith("systemctl enable --now paywright.target paywright-web@1.service ")


@pytest.mark.parametrize("odd", ["relative", "/with space", "/with%percent", "/with\nline", "/"])
def test_a_path_that_systemd_would_read_otherwise_is_refused(root, tmp_path, monkeypatch, odd):
    monkeypatch.chdir(root)
    result = CliRunner().invoke(cli.main, ["systemd", str(tmp_path), "--dir", odd])
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not os.environ.get("CI"), reason="systemd is not installed"
)
def test_systemd_finds_nothing_wrong_with_them(written):
    units = [str(path).replace("@", "@1") for path in written.glob("*.service")]
    verified = subprocess.run(
        [
            "systemd-analyze",
            "verify",
            "--man=no",
            "--recursive-errors=one",
            *units,
            str(written / "paywright.target"),
        ],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{written}:"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
