"""How long a search takes, on a PostgreSQL of its own: `python -m benchmarks.search [100000]`.

One client asks the application itself, without a web server in between. The kinds of search take turns, so that what
else the machine does slows all of them down alike.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from flask_migrate import upgrade
from sqlalchemy import text

from api.app import create_app
from api.cli._seed.fill import Options, seed_demo
from api.config import Settings
from api.core.database.embedded import EmbeddedPostgres
from api.extensions import db

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flask.testing import FlaskClient

URL = "/api/v1/products"
REQUIRED_MS = 50
RARE = ("Samovar", "Zither", "Astrolabe", "Orrery", "Theremin", "Sextant")
COMMON = ("ceramic", "blue", "handmade", "mug", "turquoise")
KINDS: Mapping[str, tuple[dict[str, str], ...]] = {
    "rare word": tuple({"q": word.lower()} for word in RARE),
    "common word": tuple({"q": word} for word in COMMON),
    "two words": tuple({"q": words} for words in ("blue mug", "ceramic teapot", "striped turquoise", "linen cushion")),
    "typing error": tuple({"q": word} for word in ("teepot", "samovr", "cermaic", "turqoise", "handmde mug")),
    "phrase": tuple({"q": words} for words in ('"ceramic teapot"', '"vintage leather"', '"in turquoise"')),
    "nothing found": tuple({"q": word} for word in ("zzyzx", "qwertzuiop", '"blue samovar teapot"', "9876543210")),
    "with a category": tuple({"q": word, "category.name": "Kitchen"} for word in (*COMMON, "blue mug")),
    "highlight": tuple({"q": words, "highlight": "true"} for words in (*COMMON, "blue mug", "teepot")),
    "similar_to": tuple(
        {"similar_to": name} for name in ("Handmde Ceramic Teapot", "Vintage Lether Bag", "teapot", "Samovar")
    ),
}


def fill(products: int) -> None:
    """Make products, and rename some, so that there are rare words."""
    upgrade()
    seed_demo(db.session, 0, products, 0, options=Options(seed=1))
    with db.engine.begin() as connection:
        for place, word in enumerate(RARE):
            connection.execute(
                text("UPDATE products SET name = 'Handmade Brass ' || :word WHERE id % :every = :place"),
                {"word": word, "every": products // 10, "place": place},
            )
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE products"))


def milliseconds(client: FlaskClient, query: Mapping[str, str]) -> float:
    """How long the first page of a search takes."""
    start = time.perf_counter()
    answer = client.get(URL, query_string=query)
    assert answer.status_code == HTTPStatus.OK, answer.text  # noqa: S101 - an error must not pass for a fast answer
    return 1000 * (time.perf_counter() - start)


def measure(client: FlaskClient, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each kind of search; the first searches of all are not counted."""
    questions = [(kind, query) for kind, queries in KINDS.items() for query in queries]
    for _, query in questions:
        milliseconds(client, query)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    draw = Random(1)  # noqa: S311 - keeps no secret
    for _ in range(rounds):
        for kind in KINDS:
            found[kind].append(milliseconds(client, draw.choice(KINDS[kind])))
    return found


def line(name: str, times: Sequence[float]) -> str:
    """Median, 99th percentile and the slowest."""
    percentile = statistics.quantiles(times, n=100)[98]
    return f"{name:18}{statistics.median(times):>9.1f} ms{percentile:>9.1f} ms{max(times):>9.1f} ms"


def report(found: Mapping[str, Sequence[float]]) -> None:
    """Print a line for each kind and for all."""
    print(f"{'':18}{'median':>12}{'p99':>12}{'slowest':>12}")
    for kind, times in found.items():
        print(line(kind, times))
    print(line("all", [one for times in found.values() for one in times]), f"  required: p99 below {REQUIRED_MS} ms")


def main() -> None:
    """Fill a database, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("products", type=int, nargs="?", default=100_000)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedPostgres(Path(directory) / "postgres")
        url = server.start().replace("postgresql://", "postgresql+psycopg2://", 1)
        try:
            app = create_app(Settings(app_env="test", database_url=url, log_level="WARNING", rate_limit_address=""))
            logging.disable(logging.INFO)
            with app.app_context():
                fill(options.products)
            report(measure(app.test_client(), options.rounds))
            with app.app_context():
                db.shutdown()
        finally:
            server.stop(force=True)


if __name__ == "__main__":
    main()
