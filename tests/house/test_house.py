"""Rules of the repository that no linter knows."""

import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files

import pytest

from actors import audit, events, jobs, state_machine
from actors.settings import MailSettings
from api.http.responses import STATUS_BY_CODE
from api.settings import WebSettings
from db.core.errors import DomainError, ErrorCode
from workers.process import WorkerSettings

ROOMS = {"api", "workers", "actors", "db"}
TOP = ROOMS | {
    *("tests", "docs", "Procfile", "pyproject.toml", "compose.yml", "README.md", "LICENSE", "Makefile"),
    *("CONTRIBUTING.md", "SECURITY.md", "requirements.lock", "requirements-dev.lock"),
    *("requirements-browser.lock", "requirements-node.lock", "requirements-otel.lock"),
}


def test_the_top_level_has_only_the_agreed_entries(root):
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True)
    top = {path.partition("/")[0] for path in listed.stdout.split()}
    assert {name for name in top if not name.startswith(".")} <= TOP


def test_every_transition_has_its_audit_action():
    for transition in state_machine.Transition:
        assert audit.AuditAction(f"payments.payment.{transition}")


def test_every_queue_is_served_by_a_process_of_the_procfile(root):
    queues = {job.queue for job in jobs.load_all().values() if not job.name.startswith("test_")}
    procfile = (root / "Procfile").read_text()
    served = {queue for line in re.findall(r"workers\.main (.*)", procfile) for queue in line.split()}
    assert queues - {"relayed", "test"} == served | {"psp", "psp-inquiries", "mail"}


def test_every_setting_is_in_the_example(root):
    example = (root / ".env.example").read_text()
    named = set(re.findall(r"^([A-Z0-9_]+)=", example, re.MULTILINE))
    read = {
        name.upper() for kind in (WebSettings, WorkerSettings, MailSettings) for name in kind.model_fields
    }
    assert read <= named
    documented = (root / "docs/configuration.md").read_text()
    assert {name for name in named if f"`{name}`" not in documented} == set()


def test_every_event_is_documented(root):
    documented = set(re.findall(r"`([a-z]+:[a-z]+:[a-z_]+)`", (root / "docs/events.md").read_text()))
    assert documented == set(events.EventType)


def test_every_error_code_has_a_status_and_every_error_a_sentence():
    assert set(STATUS_BY_CODE) == set(ErrorCode)
    assert all(400 <= status <= 599 for status in STATUS_BY_CODE.values())

    def kinds(of: type[DomainError]) -> list[type[DomainError]]:
        return [kind for direct in of.__subclasses__() for kind in (direct, *kinds(direct))]

    for kind in kinds(DomainError):
        assert kind.code in ErrorCode
        assert (kind.__doc__ or "").strip().endswith("."), kind


def test_the_lock_files_have_every_dependency_in_one_version(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    runs, exports, all = (
        set(re.findall(r"^([a-z0-9-]+==\S+)", (root / f"{name}.lock").read_text(), re.MULTILINE))
        for name in ("requirements", "requirements-otel", "requirements-dev")
    )
    assert runs < exports < all
    names = {line.partition("==")[0] for line in all}
    required = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    assert {re.split(r"[<>=\[]", line)[0] for line in required} <= names
    only_for_developers = {re.split(r"[<>=\[]", line)[0] for line in project["dependency-groups"]["dev"]}
    assert not only_for_developers & {line.partition("==")[0] for line in runs}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_module_has_a_docstring(root, room):
    for path in (root / room).rglob("*.py"):
        assert path.read_text().startswith('"""'), path


def test_links_in_the_documents_lead_somewhere(root):
    for page in [root / "README.md", *(root / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


# Imports all that runs in production, without the packages that its lock lacks.
PRODUCTION = """
import re, sys
from importlib import import_module
from importlib.metadata import packages_distributions
from pkgutil import walk_packages

locked = set(sys.argv[1:])
absent = {
    name
    for name, packages in packages_distributions().items()
    if locked.isdisjoint(re.sub("[-_.]+", "-", package).lower() for package in packages)
}


class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r} in requirements.lock", name=name)


sys.meta_path.insert(0, Absent)
# Not imported: what runs at its import, what reads settings, and the extra with a lock of its own.
left_out = re.compile(r"workers\\.dev|api\\.gunicorn|actors\\.span_export|.*__main__")
for layer in ("db", "actors", "api", "workers"):
    for module in walk_packages(import_module(layer).__path__, f"{layer}."):
        if not left_out.match(module.name):
            import_module(module.name)
"""


def test_what_runs_in_production_needs_no_package_that_its_lock_lacks(root):
    lock = (root / "requirements.lock").read_text()
    locked = re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)
    command = [sys.executable, "-c", PRODUCTION, *locked]
    imported = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert imported.returncode == 0, imported.stderr


def test_no_two_packages_bring_the_same_file(root):
    """Which of the two is installed last would be chance."""
    lock = (root / "requirements-dev.lock").read_text()
    owners: dict[str, set[str]] = {}
    for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE):
        with suppress(PackageNotFoundError):  # it is for another platform
            for file in files(name) or ():
                owners.setdefault(str(file), set()).add(name)
    shared = {file: names for file, names in owners.items() if len(names) > 1 and "__pycache__" not in file}
    assert shared == {}


def test_ci_installs_every_program_for_which_a_test_looks(root):
    """A test that is skipped where a program is missing fails there in CI."""
    tests = [path for path in (root / "tests").rglob("*.py") if "bench" not in path.parts]
    programs = {name for path in tests for name in re.findall(r'which\("([\w-]+)"', path.read_text())}
    run = (root / ".ci/run").read_text()
    assert "nginx" in programs
    assert {name for name in programs if f"command -v {name} " not in run} == set()
