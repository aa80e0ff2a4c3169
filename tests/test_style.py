"""What no one should have to look for in a review."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SOURCE = sorted((ROOT / "src").rglob("*.py"))
LONGEST = 400  # lines


def run(*command):
    found = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_ruff_finds_nothing():
    run(sys.executable, "-m", "ruff", "check", ".")


def test_the_layout_is_ruffs():
    run(sys.executable, "-m", "ruff", "format", "--check", ".")


@pytest.mark.slow
def test_the_types_fit():
    run(sys.executable, "-m", "mypy")


def test_imports_run_downward():
    run(BIN / "lint-imports")


@pytest.mark.parametrize("path", SOURCE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_idea(path):
    assert len(path.read_text().splitlines()) <= LONGEST, "past 400 lines it wants to be two"


def texts():
    """Everything that belongs to the project and is text."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    paths = [ROOT / name for name in names] or [
        path for folder in ("src", "tests", "recipes") for path in (ROOT / folder).rglob("*")
    ]
    for path in paths:
        if path.is_file():
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_no_path_of_one_machine_stands_anywhere():
    place = re.compile(r"(?<![\w./~])/(?:work|home|root|Users)/\w+|file:///\w")
    found = [f"{path.relative_to(ROOT)}: {match[0]}" for path, text in texts() for match in place.finditer(text)]
    found = [line for line in found if "test_style.py" not in line]
    assert not found


def test_no_file_is_too_large_to_review():
    assert [path for path, text in texts() if len(text.encode()) > 500_000] == []


def test_the_pins_cover_every_dependency():
    """`./journey` installs with constraints.txt: what is not pinned there may change under a user's feet."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]

    def name(line):
        return re.split(r"[<>=!\[ ;]", line)[0].lower().replace("_", "-")

    pins = {name(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert {name(line) for line in wanted} <= pins
