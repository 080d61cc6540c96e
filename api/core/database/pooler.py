"""What a pooler such as PgBouncer keeps from its clients: the settings that a session begins with."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from api.core.database.watchdog import WatchedCursor

if TYPE_CHECKING:
    from psycopg2.extensions import connection as DriverConnection  # noqa: N812 - a class, whatever its name

_log = logging.getLogger(__name__)
_OPTION = re.compile(r"-c (\S+?)=(\S+)")
# Of an extension that the session has not loaded yet there is only the text.
_FOUND = (
    "SELECT name, coalesce((SELECT setting FROM pg_settings WHERE pg_settings.name = wanted.name), "
    "current_setting(name, true)) FROM unnest(%s) AS wanted (name)"
)
_checked: set[tuple[str, ...]] = set()


def check_settings(connection: DriverConnection) -> None:
    """Log which settings have not come through a pooler, and what brings them there; once for each role."""
    parameters = connection.get_dsn_parameters()
    place = tuple(parameters.get(name, "") for name in ("host", "port", "dbname", "user"))
    if place in _checked:
        return
    wanted = dict(_OPTION.findall(parameters.get("options", "")))
    with connection.cursor(cursor_factory=WatchedCursor) as cursor:
        cursor.execute(_FOUND, [[*wanted]])
        missing = [name for name, setting in cursor.fetchall() if setting != wanted[name]]
    _checked.add(place)
    if missing:
        role = parameters["user"]
        _log.warning(
            "The pooler keeps settings of the session back; the role needs them: %s",
            " ".join(f"ALTER ROLE {role} SET {name} = '{wanted[name]}';" for name in missing),
        )
