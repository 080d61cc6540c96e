"""`make secret-scan`: a secret that is about to be committed is found."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
RULES = ".secret-scan.toml"

# Put together here, so that this file holds none.
PLANTED = {
    "an AWS key": ('KEY = "{}"', "AKIA" + "Q3EGT2KLM5NPR7ST"),
    "a GitHub token": ("token: {}", "ghp_" + secrets.token_hex(18)),
    "a private key": ("{}", "-----BEGIN RSA " + "PRIVATE KEY-----"),
    "a Slack token": ('SLACK = "{}"', "xoxb-" + "123456789012-123456789012-" + secrets.token_hex(12)),
    "a password by its name": ('password = "{}"', secrets.token_urlsafe(12)),
    "a password in a URL": ("URL=postgresql://shop:{}@db.example/shop", secrets.token_hex(8)),
    "a random string": ('value = "{}"', secrets.token_urlsafe(48)),
}


@pytest.fixture
def tree(tmp_path):
    """A repository with the project's rules and defaults."""
    for name in (RULES, ".env"):
        shutil.copy(PROJECT / name, tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def scan(tree):
    subprocess.run(["git", "add", "--all"], cwd=tree, check=True)
    command = [sys.executable, PROJECT / "scripts" / "secret_scan.py", tree]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_secret_is_found_by_file_and_line_and_not_shown(tree, kind):
    line, secret = PLANTED[kind]
    (tree / "settings.py").write_text("# Settings.\n\n" + line.format(secret) + "\n")
    done = scan(tree)
    assert done.returncode == 1
    assert "settings.py:3: " in done.stdout
    assert secret not in done.stdout + done.stderr


def test_the_development_defaults_are_allowed_where_they_are_and_nowhere_else(tree):
    assert scan(tree).returncode == 0
    (tree / "other.env").write_text((tree / ".env").read_text())
    done = scan(tree)
    assert done.returncode == 1
    assert {line.partition(":")[0] for line in done.stdout.splitlines()[:-1]} == {"other.env"}


def test_tokens_of_providers_are_found_among_the_tests_too(tree):
    (tree / "tests").mkdir()
    (tree / "tests" / "test_x.py").write_text(PLANTED["a GitHub token"][0].format(PLANTED["a GitHub token"][1]) + "\n")
    assert scan(tree).returncode == 1


def test_every_exception_has_its_reason():
    rules = tomllib.loads((PROJECT / RULES).read_text(encoding="utf-8"))
    assert rules["allowed"]
    assert all(entry["reason"] and entry["path"] for entry in [*rules["allowed"], *rules["made_up"]])
