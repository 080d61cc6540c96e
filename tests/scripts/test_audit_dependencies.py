"""`make audit`: what a vulnerability service says of the pinned packages; the service is played by a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SOUND = {"name": "sound", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}
BROKEN = {
    "name": "broken",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2.1"], "aliases": [], "description": "bad"}],
}


@pytest.fixture
def audit(tmp_path):
    """`audit(answer)`: runs the script with a `pip_audit` that answers this."""

    def run(dependencies=None, *, stderr="", status=0):
        stdout = "" if dependencies is None else json.dumps({"dependencies": dependencies})
        (tmp_path / "pip_audit.py").write_text(
            f"import sys\nsys.stdout.write({stdout!r})\nsys.stderr.write({stderr!r})\nsys.exit({status})\n"
        )
        return subprocess.run(
            [sys.executable, PROJECT / "scripts" / "audit_dependencies.py"],
            capture_output=True,
            text=True,
            check=False,
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
        )

    return run


def test_a_vulnerability_fails_and_is_named_with_the_version_that_mends_it(audit):
    done = audit([SOUND, BROKEN], status=1)
    assert done.returncode == 1
    assert "broken 2.0: PYSEC-2026-1, fixed in 2.1" in done.stdout


def test_sound_packages_pass(audit):
    done = audit([SOUND])
    assert (done.returncode, done.stdout) == (0, "No known vulnerability in 1 packages.\n")


def test_packages_that_the_service_does_not_know_are_counted(audit):
    assert "1 could not be audited" in audit([SOUND, UNKNOWN]).stdout


@pytest.mark.parametrize(
    "answer",
    [
        {"dependencies": None, "stderr": "ERROR: Could not connect to the vulnerability feed", "status": 1},
        {"dependencies": None, "stderr": "requests.exceptions.ConnectionError: no route to host", "status": 1},
        {"dependencies": [UNKNOWN, UNKNOWN]},
    ],
)
def test_without_a_service_it_says_aloud_that_nothing_was_audited(audit, answer):
    done = audit(answer.pop("dependencies"), **answer)
    assert done.returncode == 0
    assert done.stdout.startswith("SKIPPED: dependencies were not audited: ")


def test_what_is_wrong_with_the_lists_is_a_failure_and_no_reason_to_skip(audit):
    done = audit(None, stderr="ERROR: requirement flask is not pinned", status=1)
    assert done.returncode == 1
    assert "not pinned" in done.stderr


def test_it_is_asked_about_everything_that_is_pinned():
    assert (PROJECT / "requirements-dev.txt").read_text(encoding="utf-8").startswith("-r requirements.txt\n")
