"""Takes secrets out of log lines: those of the settings, and whatever looks like one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

if TYPE_CHECKING:
    from structlog.typing import EventDict

    from api.config import Settings

MASK = "***"
SECRET_FIELDS = frozenset(
    f"{kind}{name}"
    for name in ("password", "token", "secret", "authorization", "api_key", "secret_key", "cookie", "credential")
    for kind in ("", "new_", "current_", "access_", "refresh_")
) | {"passwords", "tokens", "secrets", "password_hash", "token_hash", "key_hash"}
"""Fields of log lines whose values never appear, whatever they are."""

_SHORTEST_LITERAL = 12
"""Characters. A shorter secret of the settings is not looked for: it may be part of any word."""
_ROW_VALUES = (
    (re.compile(r"(Failing row contains \().*"), rf"\1{MASK})"),
    (re.compile(r"(Key \(.+?\)=\().*(?=\))"), rf"\1{MASK}"),
    (re.compile(r"(LINE \d+: ).*"), rf"\1{MASK}"),
)
"""What PostgreSQL quotes from the row that it refused."""

_PASSWORD_IN_URL = re.compile(r"""(://[^\s:/@"']{0,256}:)[^\s"']{1,512}@""")
# Lengths are bounded, so that no line takes long. Quotes may be escaped, for a JSON line is searched as a whole; they
# stay, so that it remains JSON.
_PASSWORD_BY_NAME = re.compile(
    r"""(?i)(password\w*(?:\\{0,8}["'])?\s*[=:]\s*)(?:(?P<quote>\\{0,8}["']).{0,4096}?(?P=quote)|[^\s,;&"'\\)}]+)"""
)
_TOKEN_BY_NAME = re.compile(
    r"""(?i)((?:secret|token|api[_-]?key|authorization|cookie|credential)\w*(?:\\{0,8}["'])?\s*[=:]\s*)"""
    r"""(?:(?P<quote>\\{0,8}["']).{0,4096}?(?P=quote)|(?:(?:bearer|basic)\s+)?[\w.~+/=-]{12,})"""
)
_BY_FORM = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}"  # a header's value
    r"|\beyJ[\w-]+\.[\w-]*(?:\.[\w-]*)?"  # a JSON Web Token
    r"|\$argon2\w*\$[\w$=,+/]*"  # a password's hash
    r"|-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----(?:.{0,16384}?-----END [A-Z ]{0,32}PRIVATE KEY-----)?",
    re.DOTALL,
)
_SIGNS_OF_A_NAME = ("token", "secret", "api_key", "api-key", "apikey", "authorization", "cookie", "credential")
_SIGNS_OF_A_FORM = ("bearer", "basic", "eyj", "$argon2", "private key")
# As `secrets.token_urlsafe(30)` and longer makes them. Anchored, so that a character is looked at a few times at most.
_RANDOM = re.compile(r"(?<![\w-])(?=[\w-]*?[0-9])(?=[\w-]*?[a-z])(?=[\w-]*?[A-Z])[\w-]{40,}", re.ASCII)


class Redaction:
    """Takes secrets out of finished lines; `settings` tell those that are known word for word."""

    def __init__(self, settings: Settings) -> None:
        self._literals = _literal_secrets(settings)

    def __call__(self, line: str) -> str:
        """`line` without them. What is searched for costs nothing where the line has no sign of it."""
        for secret in self._literals:
            line = line.replace(secret, MASK)
        if "://" in line:
            line = _PASSWORD_IN_URL.sub(rf"\1{MASK}@", line)
        lowered = line.lower()
        if "password" in lowered:
            line = _PASSWORD_BY_NAME.sub(_masked, line)
        if _has_any(lowered, _SIGNS_OF_A_NAME):
            line = _TOKEN_BY_NAME.sub(_masked, line)
        if _has_any(lowered, _SIGNS_OF_A_FORM):
            line = _BY_FORM.sub(MASK, line)
        return line


def _has_any(line: str, signs: tuple[str, ...]) -> bool:
    # A loop, for this runs with every line: any() takes twice as long.
    for sign in signs:  # noqa: SIM110
        if sign in line:
            return True
    return False


def hide_fields(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Mask the fields that are secrets by their name, and what PostgreSQL quotes in a traceback. For structlog."""
    if not SECRET_FIELDS.isdisjoint(event):
        for key in SECRET_FIELDS & event.keys():
            event[key] = MASK
    traceback = event.get("exception")
    if isinstance(traceback, str):
        for pattern, replacement in _ROW_VALUES:
            traceback = pattern.sub(replacement, traceback)
        event["exception"] = _RANDOM.sub(MASK, traceback)
    if event.get("level") in {"warning", "error", "critical"} and isinstance(event.get("event"), str):
        event["event"] = _RANDOM.sub(MASK, event["event"])
    return event


def _masked(found: re.Match[str]) -> str:
    quotation = found["quote"] or ""
    return f"{found[1]}{quotation}{MASK}{quotation}"


def _literal_secrets(settings: Settings) -> list[str]:
    """What never stands in a line, whatever surrounds it."""
    urls = [settings.database_url, *settings.databases.values(), settings.rate_limit_storage_url]
    secrets = [
        settings.secret_key,
        settings.database_password,
        settings.metrics_token,
        *settings.auth_keys.values(),
        *(_password_of(url) for url in urls),
    ]
    long = [secret for secret in secrets if len(secret) >= _SHORTEST_LITERAL]
    return sorted({form for secret in long for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])})


def _password_of(url: str) -> str:
    try:
        return make_url(url).password or "" if url else ""
    except (ArgumentError, ValueError):
        return ""
