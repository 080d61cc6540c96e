"""Asks whether a known vulnerability concerns what is pinned, with pip-audit.

    python scripts/audit_dependencies.py [REQUIREMENTS...]

Ends with 1 when one does. Where no vulnerability service answers, it says that nothing was audited, and ends with 0:
who works without a network must be able to check their code.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

LISTS = ["requirements-dev.txt"]
"""It includes requirements.txt."""
SECONDS = 60
"""After so long the service counts as out of reach."""
OUT_OF_REACH = ("Could not connect", "ConnectionError", "HTTPError", "timed out", "not redirecting properly")


def main() -> int:
    """Print what was found."""
    lists = sys.argv[1:] or LISTS
    arguments = [part for name in lists for part in ("--requirement", name)]
    # Everything is pinned, so that nothing has to be resolved or installed.
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--no-deps",
        "--disable-pip",
        "--progress-spinner=off",
        "--format=json",
    ]
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return _skipped(f"no answer within {SECONDS} seconds")
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except ValueError:
        if any(sign in done.stderr for sign in OUT_OF_REACH):
            return _skipped("no vulnerability service can be reached")
        print(done.stdout + done.stderr, file=sys.stderr)
        return 1
    return _verdict(dependencies)


def _verdict(dependencies: list[dict[str, Any]]) -> int:
    audited = [dependency for dependency in dependencies if "vulns" in dependency]
    found = [(dependency, vulnerability) for dependency in audited for vulnerability in dependency["vulns"]]
    for dependency, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "none yet"
        print(f"{dependency['name']} {dependency['version']}: {vulnerability['id']}, fixed in {fixed}")
    if found:
        return 1
    if not audited:
        return _skipped("no vulnerability service knows the packages")
    unknown = len(dependencies) - len(audited)
    print(
        f"No known vulnerability in {len(audited)} packages"
        + (f"; {unknown} could not be audited." if unknown else ".")
    )
    return 0


def _skipped(reason: str) -> int:
    print(f"SKIPPED: dependencies were not audited: {reason}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
