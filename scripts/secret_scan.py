"""Looks for secrets in the files that git tracks, with detect-secrets; what is allowed is in `.secret-scan.toml`.

    python scripts/secret_scan.py [DIRECTORY]

Ends with 1 when it finds something, and names file, line and kind; never the secret itself.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import transient_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ALLOWED = ".secret-scan.toml"
# Tokens of providers, and keys: nothing looks like one by chance.
BY_FORM = [
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "SquareOAuthDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
]
# Passwords by their names and in URLs, tokens that anybody may make, and strings that look random.
BY_CONTEXT = [
    "BasicAuthDetector",
    "JwtTokenDetector",
    "KeywordDetector",
    "Base64HighEntropyString",
    "HexHighEntropyString",
]
FILTERS = [
    {"path": "detect_secrets.filters.heuristic.is_templated_secret"},
    {"path": "detect_secrets.filters.heuristic.is_not_alphanumeric_string"},
    {"path": "detect_secrets.filters.heuristic.is_indirect_reference"},
]


def findings(root: Path) -> Iterator[tuple[str, int, str]]:
    """File, line and kind of each secret in the tracked files below `root` that is not allowed."""
    rules = tomllib.loads((root / ALLOWED).read_text(encoding="utf-8"))
    tracked = _tracked(root)
    made_up = {path for path in tracked if any(fnmatch(path, entry["path"]) for entry in rules["made_up"])}
    for plugins, paths in ((BY_FORM, made_up), ([*BY_FORM, *BY_CONTEXT], tracked - made_up)):
        with transient_settings({"plugins_used": [{"name": name} for name in plugins], "filters_used": FILTERS}):
            for path in paths:
                yield from _in_file(root, path, rules["allowed"])


def _tracked(root: Path) -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True)  # noqa: S607
    return {path for path in listed.stdout.split("\0") if path and (root / path).is_file()}


def _in_file(root: Path, path: str, allowed: list[dict[str, str]]) -> Iterator[tuple[str, int, str]]:
    known = {entry["secret"] for entry in allowed if fnmatch(path, entry["path"])}
    for secret in scan_file(str(root / path)):
        if secret.secret_value not in known:
            yield path, secret.line_number, secret.type


def main() -> int:
    """Print what was found."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    found = sorted(set(findings(root)))
    for path, number, kind in found:
        print(f"{path}:{number}: {kind}")
    if found:
        print(f"Take them out, and replace them where they were in use; what is none belongs into {ALLOWED}.")
        return 1
    print("No secrets found.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
