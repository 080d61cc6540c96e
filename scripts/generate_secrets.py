"""Writes the secrets that `.env.local` lacks, at random; what is there stays as it is. Python's own library is enough.

    python scripts/generate_secrets.py [FILE]

Prints the names of what it has written, never a value. The file is for its owner alone (mode 600).
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / ".env.local"
BYTES_BY_NAME = {
    "SECRET_KEY": 48,
    "POSTGRES_PASSWORD": 32,
    "API_DB_PASSWORD": 32,
    "READER_DB_PASSWORD": 32,
    "PGADMIN_DEFAULT_PASSWORD": 24,
}
"""How many random bytes each has. They are written as letters, digits, - and _, which mean nothing to any program."""

HEADER = "# Secrets of this machine, made by scripts/generate_secrets.py. git ignores this file.\n"
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=")
_OWNER_ONLY = 0o600


def add_missing(path: Path) -> list[str]:
    """Add what `path` lacks, and return its names. Nobody ever sees half a file."""
    before = path.read_text(encoding="utf-8") if path.exists() else HEADER
    given = {found[1] for found in map(_ASSIGNMENT.match, before.splitlines()) if found}
    missing = [name for name in BYTES_BY_NAME if name not in given]
    if before and not before.endswith("\n"):
        before += "\n"
    added = "".join(f"{name}={secrets.token_urlsafe(BYTES_BY_NAME[name])}\n" for name in missing)
    if missing:
        _replace(path, before + added)
    path.chmod(_OWNER_ONLY)
    return missing


def _replace(path: Path, content: str) -> None:
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "w", encoding="utf-8") as file:
            file.write(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def main() -> None:
    """Add what is missing, and tell."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    added = add_missing(path)
    print(f"{path}: {'written: ' + ', '.join(added) if added else 'all secrets are there already'}.")


if __name__ == "__main__":
    main()
