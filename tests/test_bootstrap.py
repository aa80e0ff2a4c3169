"""`./journey` from a fresh copy, with a Python of the test's own making on the path: nothing is downloaded."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A Python that answers what the script asks it, and whose venv holds a pip and a journey that say what they were told.
PYTHON = """\
#!/bin/sh
echo "$(basename "$0") $*" >>"$LOG"
case "$*" in
    *"import sys; sys.exit(not (3, 11)"*) exit ${WRONG_VERSION:-0} ;;
    *"import ensurepip, venv"*) exit ${NO_VENV:-0} ;;
    *"print("*) echo 3.11 ;;
    "--version") echo "Python 3.11.2" ;;
    "-m venv "*)
        mkdir -p "$3/bin"
        printf '#!/bin/sh\\necho "pip $*" >>"$LOG"\\nexit ${PIP_FAILS:-0}\\n' >"$3/bin/pip"
        printf '#!/bin/sh\\necho "journey in $PWD: $*"\\n' >"$3/bin/journey"
        printf '#!/bin/sh\\necho "python in $PWD: $*"\\n' >"$3/bin/python"
        chmod +x "$3/bin/"*
        ;;
    *) exit 99 ;;
esac
"""


@pytest.fixture(params=["plain", "with a space"])
def checkout(request, tmp_path):
    """A fresh copy of what the script needs, and a path on which the only Python is ours."""
    root = tmp_path / request.param
    root.mkdir()
    for name in ("journey", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    bin = tmp_path / "bin"
    bin.mkdir()
    for tool in ("sh", "cat", "cksum", "dirname", "basename", "mkdir", "chmod", "rm", "printf"):
        (bin / tool).symlink_to(shutil.which(tool))
    (bin / "python3").write_text(PYTHON)
    (bin / "python3").chmod(0o755)
    return root


def call(checkout, *arguments, cwd=None, script=None, **settings):
    environment = {"PATH": str(checkout.parent / "bin"), "LOG": str(checkout.parent / "log"), **settings}
    command = [script or str(checkout / "journey"), *arguments]
    return subprocess.run(command, cwd=cwd or checkout, env=environment, capture_output=True, text=True)


def log(checkout, what):
    path = checkout.parent / "log"
    return [line for line in path.read_text().splitlines() if line.startswith(what)] if path.exists() else []


def test_the_first_call_installs_and_the_second_does_not(checkout):
    first = call(checkout, "tree", "--json")
    assert first.returncode == 0 and first.stdout == f"journey in {checkout}: tree --json\n"
    assert "installing" in first.stderr
    (pip,) = log(checkout, "pip")
    assert f"--constraint {checkout}/constraints.txt --editable {checkout}" in pip and "[test]" not in pip
    python = log(checkout, "python3")
    second = call(checkout, "run")
    assert second.stdout == f"journey in {checkout}: run\n" and second.stderr == ""
    assert len(log(checkout, "pip")) == 1 and log(checkout, "python3") == python


def test_arguments_arrive_as_they_are(checkout):
    assert (
        call(checkout, "generate", "base", "two  words *").stdout
        == f"journey in {checkout}: generate base two  words *\n"
    )


def test_test_installs_what_the_tests_need_and_hands_over_its_arguments(checkout, tmp_path):
    found = call(checkout, "test", "-k", "x", cwd=tmp_path)
    assert found.stdout == f"python in {checkout}: -m pytest -k x\n"
    assert f"{checkout}[test]" in log(checkout, "pip")[0]


def test_from_another_folder_and_through_a_relative_path(checkout, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    relative = os.path.relpath(checkout / "journey", there)
    found = call(checkout, "tree", cwd=there, script=relative)
    assert found.stdout == f"journey in {there}: tree\n"
    assert (checkout / ".venv" / "bin" / "pip").exists() and not (there / ".venv").exists()


def test_new_pins_are_installed(checkout):
    call(checkout, "tree")
    with open(checkout / "constraints.txt", "a") as file:
        file.write("more==1\n")
    call(checkout, "tree")
    assert len(log(checkout, "pip")) == 2


def test_an_installation_that_failed_is_told_and_tried_again(checkout):
    first = call(checkout, "tree", PIP_FAILS="1")
    assert first.returncode == 1 and first.stdout == "" and "run the same command again" in first.stderr
    second = call(checkout, "tree")
    assert second.returncode == 0 and len(log(checkout, "pip")) == 2
    assert len(log(checkout, "python3 -m venv")) == 1


def test_a_missing_venv_module_is_one_line_with_the_package(checkout):
    found = call(checkout, "run", NO_VENV="1")
    assert found.returncode == 2 and found.stdout == ""
    assert found.stderr == "journey: Python's venv is missing: apt install python3.11-venv\n"
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_too_old_is_one_line_with_the_package(checkout):
    found = call(checkout, "run", WRONG_VERSION="1")
    assert found.returncode == 2 and found.stdout == "" and len(found.stderr.splitlines()) == 1
    assert "needs Python 3.11, 3.12 or 3.13: apt install python3 python3-venv" in found.stderr


def test_no_python_at_all_is_told_the_same(checkout):
    (checkout.parent / "bin" / "python3").unlink()
    found = call(checkout, "run")
    assert found.returncode == 2 and len(found.stderr.splitlines()) == 1 and "needs Python" in found.stderr


def test_the_next_python_is_taken_where_the_first_is_too_old(checkout):
    bin = checkout.parent / "bin"
    (bin / "python3").rename(bin / "python3.12")
    (bin / "python3").write_text("#!/bin/sh\nexit 1\n")
    (bin / "python3").chmod(0o755)
    assert call(checkout, "tree").returncode == 0
    assert log(checkout, "python3.12 -m venv")


def test_a_half_made_venv_is_made_anew(checkout):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "leftover").write_text("")
    assert call(checkout, "tree").returncode == 0
    assert not (checkout / ".venv" / "leftover").exists()


@pytest.mark.parametrize("script", ["journey", ".ci/run"])
def test_the_scripts_are_posix_shell(script):
    path = ROOT / script
    assert os.access(path, os.X_OK)
    for shell in filter(None, map(shutil.which, ("sh", "dash", "bash"))):
        subprocess.run([shell, "-n", path], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", path], check=True)
