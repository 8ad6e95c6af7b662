"""The code and its documents use the words of docs/glossary.md, and keep files of a readable size."""

import re
import subprocess
from pathlib import Path

import pytest

LAYERS = ("api", "actors", "db", "workers")
# Migrations of earlier releases are never edited; these pages and tests name what an upgrade finds.
EXEMPT = re.compile(
    r"db/migrations/00([0-3]\d|4[0-3])_|docs/(changelog|glossary)\.md|tests/(house/test_language|db/test_migrations)\.py"
)
GONE = re.compile(
    r"\b(promis(e[ds]?|ing)|verbs?|wish(es|ed)?|told|lawful(ly)?|whoever|doubts?|doors?|hub|letters?|sight"
    r"|_PATIENCE|_MANY|_SOME|_SOON|_SELDOM)\b"
)
# Where a word of the list has its ordinary meaning.
ORDINARY = re.compile(r"subject, verb, object|letters(,| and) digits|(for a|each|for each) letter")

MAX_LINES, MIN_LINES = 350, 15


def tracked(root: Path, *places: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", *places], cwd=root, capture_output=True, text=True, check=True
    )
    return listed.stdout.split()


def test_no_word_of_the_old_dialect_is_left(root):
    found = []
    for name in tracked(
        root,
        *LAYERS,
        "tests",
        "docs",
        "pyproject.toml",
        "Makefile",
        "Procfile",
        "compose.yml",
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ):
        if EXEMPT.search(name) or not name.endswith(
            (".py", ".sql", ".md", ".json", ".html", ".js", ".toml", ".yml", "Makefile", "Procfile")
        ):
            continue
        for number, line in enumerate((root / name).read_text().splitlines(), 1):
            if (word := GONE.search(ORDINARY.sub("", line))) is not None:
                found.append(f"{name}:{number}: {word[0]}")
    assert not found, "\n".join(found)


def test_the_launcher_stays_small(root):
    """It is no payments code. What shows a running stack is apart, in `workers/dev/demo`."""
    assert sum(path.read_text().count("\n") for path in (root / "workers/dev").glob("*.py")) <= 700


@pytest.mark.parametrize("layer", LAYERS)
def test_a_file_is_one_idea_of_a_readable_size(root, layer):
    for name in tracked(root, f"{layer}/*.py"):
        lines = (root / name).read_text().count("\n")
        assert lines <= MAX_LINES, f"{name}: {lines} lines"
        assert lines >= MIN_LINES or name.endswith("__init__.py"), f"{name}: {lines} lines"
