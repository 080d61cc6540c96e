"""`scripts/generate_secrets.py`: random secrets where there are none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from api.config import DEVELOPMENT_SECRETS, MINIMUM_SECRET_LENGTH

PROJECT = Path(__file__).resolve().parents[2]
NAMES = {"SECRET_KEY", "POSTGRES_PASSWORD", "API_DB_PASSWORD", "READER_DB_PASSWORD", "PGADMIN_DEFAULT_PASSWORD"}


@pytest.fixture
def file(tmp_path):
    return tmp_path / ".env.local"


def generate(file):
    # Isolated: nothing but Python's own library.
    command = [sys.executable, "-I", "-S", PROJECT / "scripts" / "generate_secrets.py", file]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_every_secret_is_random_long_and_safe_to_write_anywhere(file):
    generate(file)
    first = dotenv_values(file)
    file.unlink()
    generate(file)
    second = dotenv_values(file)
    assert set(first) == set(second) == NAMES
    values = [*first.values(), *second.values()]
    assert len({*values}) == 2 * len(NAMES)
    assert all(len(value) >= MINIMUM_SECRET_LENGTH for value in values)
    assert all(value.replace("-", "").replace("_", "").isalnum() and value.isascii() for value in values)
    assert DEVELOPMENT_SECRETS.isdisjoint(values)


def test_the_file_is_for_its_owner_alone_whatever_the_umask(file):
    before = os.umask(0)
    try:
        generate(file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_there_stays_and_the_file_is_closed_to_others(file):
    file.write_text("# mine\nSECRET_KEY=mine\nexport POSTGRES_PASSWORD='mine, too'\nPORT=9000")
    file.chmod(0o644)
    generate(file)
    assert file.read_text().startswith("# mine\nSECRET_KEY=mine\nexport POSTGRES_PASSWORD='mine, too'\nPORT=9000\n")
    values = dotenv_values(file)
    assert (values["SECRET_KEY"], values["POSTGRES_PASSWORD"], values["PORT"]) == ("mine", "mine, too", "9000")
    assert set(values) == NAMES | {"PORT"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_second_run_changes_nothing(file):
    generate(file)
    before = file.read_bytes()
    assert "already" in generate(file).stdout
    assert file.read_bytes() == before


def test_names_are_told_and_values_never(file):
    done = generate(file)
    for name, value in dotenv_values(file).items():
        assert name in done.stdout
        assert value not in done.stdout + done.stderr


def test_nothing_is_left_beside_the_file(file):
    generate(file)
    assert list(file.parent.iterdir()) == [file]
