"""The frontend kit is compiled, linted, and run against the stack, together with the examples of the pages."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.flows.conftest import Stack
from tests.makers import SECRETS
from tests.node import once, project, run

PAGES = ["README.md", "docs/frontend/README.md", "docs/integration.md"]
EXAMPLE = re.compile(r"^```tsx?\n// (src/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GENERATE = re.compile(r"^\$ (npx openapi-typescript .*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def kit(stack: Stack, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project like that of a user: the kit was copied into it, the schema written, and it has the examples."""
    folder = project(root, "tests/frontend", tmp_path_factory.mktemp("kit"))
    (folder / "src").mkdir()
    for file in [*(root / "docs/frontend").glob("*.ts"), root / "tests/frontend/kit.test.ts"]:
        shutil.copy(file, folder / "src")
    for name in ("tsconfig.json", "eslint.config.js"):
        shutil.copy(root / "tests/frontend" / name, folder)
    for page in PAGES:
        examples = EXAMPLE.findall((root / page).read_text())
        assert len(examples) == (root / page).read_text().count("```ts"), f"{page}: an example names no file"
        for path, text in examples:
            (folder / path).write_text(text)
    (command,) = GENERATE.findall((root / "docs/frontend/README.md").read_text())
    (folder / "served.json").write_bytes(stack.http.get("/api/openapi.json").raise_for_status().content)
    written = once(
        ["sh", "-c", command],
        folder,
        reads=["served.json"],
        makes="src/schema.d.ts",
        env={"BASE_URL": str(stack.http.base_url)},
    )
    assert written.returncode == 0, written.stderr
    return folder


@pytest.fixture(scope="module")
def compiled(stack: Stack, kit: Path) -> subprocess.CompletedProcess[str]:
    done = once(["node_modules/.bin/tsc"], kit, reads=["src", "tsconfig.json"], makes="out")
    # Only now, so that the same files are not compiled again for another port.
    for script in (kit / "out").glob("*.js"):
        script.write_text(script.read_text().replace("http://127.0.0.1:3000", str(stack.http.base_url)))
    return done


def test_the_kit_compiles_under_every_strict_option(compiled):
    assert (compiled.returncode, compiled.stdout) == (0, "")


def test_the_linter_finds_nothing_in_the_kit(kit):
    command = ["node_modules/.bin/eslint", "--max-warnings=0", "src"]
    linted = once(command, kit, reads=["src", "tsconfig.json", "eslint.config.js"])
    assert linted.returncode == 0, linted.stdout


@pytest.mark.usefixtures("compiled")
def test_the_kit_works_with_the_real_stack(stack, kit):
    known = {"BASE_URL": str(stack.http.base_url), "JWT_SECRET": SECRETS["JWT_SECRET"]}
    options = ["--expose-gc", "--test", "--test-reporter=spec", "--test-timeout=240000"]
    tested = run(["node", *options, "out/kit.test.js"], kit, env=known)
    assert tested.returncode == 0, tested.stdout[-6000:] + tested.stderr[-2000:]


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    ("example", "shown"),
    [
        ("readme", "completed"),
        ("pay", "completed"),
        ("order", "true completed"),
        ("link", "completed completed"),
        ("list", "true"),
    ],
)
def test_an_example_of_the_pages_runs(kit, example, shown):
    done = run(["node", f"out/{example}.js"], kit)
    assert (done.returncode, done.stdout.strip()) == (0, shown), done.stderr
