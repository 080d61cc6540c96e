"""What the second wall costs a read: `python -m benchmarks.row_security`.

The statements of real requests are sent again, in turns: by the role that owns the tables, which is told nothing, and
by the API's role, which is told who is acting in the same message. Prints
microseconds of a read, the lower quartile of many.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask_migrate import upgrade
from sqlalchemy import event, text

from api.app import create_app
from api.cli._seed.fill import Options, seed_demo
from api.config import Settings
from api.core.access.caller import Caller
from api.core.database.context import Acting, AttributedCursor, Credential, _acting
from api.core.database.embedded import EmbeddedPostgres
from api.core.database.watchdog import WatchedCursor
from api.extensions import db
from tests.callers import accept_callers, as_caller

ROUNDS = 1000
CHECK = "public.verify_session(%s, %s)"


def main() -> None:
    """Fill a server, capture the reads, and send them in turns."""
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedPostgres(Path(directory) / "instance" / "postgres")
        app = accept_callers(
            create_app(
                Settings(
                    app_env="test",
                    log_level="ERROR",
                    rate_limit_address="",
                    rate_limit_caller="",
                    instance_path=Path(directory) / "instance",
                )
            )
        )
        with app.app_context():
            upgrade()
            seed_demo(db.session, 500, 1000, 20_000, options=Options(seed=1))
            with db.owner_engine.begin() as owner:
                owner.execute(text("ANALYZE"))
                user = owner.scalar(text("SELECT user_id FROM orders GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"))
                order = owner.scalar(text("SELECT id FROM orders WHERE user_id = :user LIMIT 1"), {"user": user})
                session = owner.scalar(
                    text(
                        "INSERT INTO auth_sessions (id, user_id, expires_at) "
                        "VALUES (gen_random_uuid(), :user, now() + interval '1 day') RETURNING id::text"
                    ),
                    {"user": user},
                )
            customer = Caller(f"user:{user}", user)
            manager = Caller("user:1", 1, frozenset({"manager"}))
            credential = Credential(CHECK, (session, 1))
            print(f"{'read':<34}{'owner':>9}{'API':>9}{'cost':>9}{'':>8}{'checked':>10}{'cost':>9}{'request':>11}")
            for who, caller, unrestricted in (("customer", customer, ""), ("manager", manager, "orders,users")):
                for path in (f"orders/{order}", "orders?limit=20", "products/7", "products?limit=20"):
                    captured = _captured(app, caller, f"/api/v1/{path}")
                    acting = Acting(caller.name, "r", None, caller.user_id, unrestricted)
                    plain, told, checked = _measured(captured, acting, acting._replace(credential=credential))
                    name = f"{who}: {path.split('?')[0].replace(str(order), '{id}')}"
                    print(
                        f"{name:<34}{plain:>6.0f} µs{told:>6.0f} µs{told - plain:>6.0f} µs{told / plain - 1:>8.1%}"
                        f"{checked:>7.0f} µs{checked - plain:>6.0f} µs{_request(app, caller, path):>8.0f} µs"
                    )
            db.shutdown()
        app.extensions["embedded_postgres"].stop()
        del server


def _captured(app: Any, caller: Caller, path: str) -> tuple[str, Any]:
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        seen.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", note)
    answer = as_caller(app.test_client(), caller).get(path)
    event.remove(db.engine, "before_cursor_execute", note)
    assert answer.status_code == HTTPStatus.OK, answer.text  # noqa: S101
    (read,) = seen
    return read


def _request(app: Any, caller: Caller, path: str) -> float:
    """Microseconds of the whole request, without a web server and its network."""
    client = as_caller(app.test_client(), caller)
    taken = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        client.get(f"/api/v1/{path}")
        taken.append(time.perf_counter() - begin)
    return statistics.quantiles(taken, n=4)[0] * 1e6


def _pin(*connections: Any) -> None:
    """Run the servers of all connections on one core: on which of them one is makes more of a difference."""
    for connection in connections:
        os.sched_setaffinity(connection.info.backend_pid, {max(os.sched_getaffinity(0))})


def _measured(read: tuple[str, Any], *actings: Acting) -> list[float]:
    """Microseconds of the read by the owner, and by the API's role as each of `actings`; interleaved."""
    statement, parameters = read
    with closing(db.owner_engine.raw_connection()) as one, closing(db.engine.raw_connection()) as other:
        owner: Any = one.driver_connection
        api: Any = other.driver_connection
        owner.autocommit = api.autocommit = True
        _pin(owner, api)
        ways = [(owner, WatchedCursor, Acting()), *((api, AttributedCursor, acting) for acting in actings)]
        times: list[list[float]] = [[] for _ in ways]
        for number in range(ROUNDS):
            # Whoever comes first finds the caches cold.
            for place in range(len(ways)):
                turn = (place + number) % len(ways)
                connection, cursor_class, acting = ways[turn]
                with _acting(acting):
                    begin = time.perf_counter()
                    with connection.cursor(cursor_factory=cursor_class) as cursor:
                        cursor.execute(statement, parameters)
                        cursor.fetchall()
                    times[turn].append(time.perf_counter() - begin)
        owner.autocommit = api.autocommit = False
    return [statistics.quantiles(taken, n=4)[0] * 1e6 for taken in times]


if __name__ == "__main__":
    main()
