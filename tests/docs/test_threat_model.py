"""docs/THREAT_MODEL.md names tests; each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
TEXT = (PROJECT / "docs" / "THREAT_MODEL.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)", TEXT)


def test_every_test_that_the_threat_model_names_is_there():
    missing = [
        (name, path)
        for name, path in LINKS
        if not (PROJECT / path).is_file()
        or not re.search(rf"^def {name}\(", (PROJECT / path).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert missing == []


def test_every_file_that_it_names_is_there():
    assert all((PROJECT / path).is_file() for path in re.findall(r"`(tests/[\w/]+\.py)`", TEXT))


def test_each_of_the_ten_risks_has_its_section_and_each_threat_a_test():
    sections = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    risks = [section for section in sections if re.match(r"API\d+: ", section)]
    assert [section.partition(":")[0] for section in risks] == [f"API{number}" for number in range(1, 11)]
    for section in risks:
        rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| threat")]
        assert rows
        assert all("tests/" in row for row in rows)
