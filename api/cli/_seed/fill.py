"""Writes made-up rows with COPY, a batch a transaction; the database checks every constraint."""

from __future__ import annotations

import io
import secrets
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg2
from sqlalchemy import func, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, scoped_session

from api.cli._progress import no_bar
from api.cli._seed import rows, words
from api.cli._seed.rows import Buyer, Maker, Row, Ware
from api.core.database.outbox import unpublished
from api.core.database.session import transaction
from api.core.resource.service import Service
from api.resources.categories.models import Category
from api.resources.roles.models import Role
from api.resources.tags.models import Tag
from api.resources.users.models import User
from api.resources.users.service import UserService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import TextClause

    from api.cli._progress import Bar

R = TypeVar("R", bound=tuple[Any, ...])

DEMO_PASSWORD: Final = "demo-password"  # noqa: S105 - meant to be known
DEMO_NAMES: Final = ("customer", "manager", "admin")
"""Users that are easy to remember, each with the role of this name; only made where there is a password."""
BATCH: Final = 5_000
# Users and products that the orders of a batch are made of: runs of neighbours, from that many random places.
_SAMPLE: Final = 2_000
_PLACES: Final = 20
_TABLES: Final = "users, profiles, user_roles, roles, categories, products, product_tags, tags, orders, order_items"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

_NEXT_KEYS = text("SELECT nextval(pg_get_serial_sequence(:table, 'id')) FROM generate_series(1, :count)")
_TAKEN_USERNAMES = text("""
    SELECT lower(username) FROM users WHERE deleted_at IS NULL AND lower(username) = ANY(:names)
    UNION
    SELECT name FROM unnest(CAST(:names AS text[])) AS name JOIN users ON lower(email) = name || '@example.com'
    WHERE deleted_at IS NULL
""")
_TAKEN_SKUS = text("SELECT lower(sku) FROM products WHERE deleted_at IS NULL AND lower(sku) = ANY(:names)")
_LAST_KEYS = text(
    "SELECT (SELECT max(id) FROM users), (SELECT max(id) FROM products), (SELECT max(id) FROM order_items)"
)
_BUYER_RANGE = text("SELECT min(id), max(id) FROM users WHERE deleted_at IS NULL")
_WARE_RANGE = text("SELECT min(id), max(id) FROM products WHERE deleted_at IS NULL")
_BUYERS = text("""
    SELECT DISTINCT buyer.id, profiles.country FROM unnest(CAST(:places AS bigint[])) AS place
    CROSS JOIN LATERAL (
        SELECT id FROM users WHERE deleted_at IS NULL AND id >= place ORDER BY id LIMIT :size
    ) AS buyer
    LEFT JOIN profiles ON profiles.user_id = buyer.id
    ORDER BY buyer.id
""")
_WARES = text("""
    SELECT DISTINCT ware.* FROM unnest(CAST(:places AS bigint[])) AS place
    CROSS JOIN LATERAL (
        SELECT id, CAST(price * 100 AS bigint), stock_quantity FROM products
        WHERE deleted_at IS NULL AND id >= place ORDER BY id LIMIT :size
    ) AS ware
    ORDER BY ware.id
""")
_TAKE = text("""
    UPDATE products SET stock_quantity = stock_quantity - taken.quantity, version = version + 1
    FROM unnest(CAST(:keys AS bigint[]), CAST(:quantities AS integer[])) AS taken (id, quantity)
    WHERE products.id = taken.id
""")


class NothingToOrderError(ValueError):
    """Orders are asked for where there is no user or no product."""


@dataclass(frozen=True, slots=True)
class Options:
    """How data are made. Two runs with the same seed and end make the same on top of the same.

    Without `seed` it is drawn; without `until` the newest order is of now; without `password` users have none.
    """

    seed: int | None = None
    until: datetime | None = None
    password: str | None = DEMO_PASSWORD


@dataclass(frozen=True, slots=True)
class Seeded:
    """What has been added, the seed that it was made from, and who is among the users to log in as."""

    users: int
    products: int
    orders: int
    order_items: int
    seed: int
    logins: tuple[str, ...] = ()


def seed_demo(
    session: Session | scoped_session[Any],
    users: int = 50,
    products: int = 200,
    orders: int = 300,
    *,
    options: Options | None = None,
    bar: Bar = no_bar,
) -> Seeded:
    """Add so many users, products and orders to what is there, in transactions of its own.

    Raises:
        ValueError: for a negative number.
        NothingToOrderError: for orders without a user or a product, before anything is written.
        APIError: for what the database refuses; earlier batches stay.
    """
    if min(users, products, orders) < 0:
        raise ValueError("The number of rows to make cannot be negative.")
    options = options or Options()
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    filler = Filler(session() if isinstance(session, scoped_session) else session, seed, options)
    if orders:
        filler.check_orders_possible(users, products)
    with bar("Users", users) as advance:
        for batch in _batches(users):
            filler.add_users(len(batch))
            advance(len(batch))
    with bar("Products", products) as advance:
        for batch in _batches(products):
            filler.add_products(len(batch))
            advance(len(batch))
    items = 0
    with bar("Orders", orders) as advance:
        for batch in _batches(orders):
            items += filler.add_orders(batch, orders)
            advance(len(batch))
    filler.analyze()
    return Seeded(users, products, orders, items, seed, filler.logins)


def _batches(count: int) -> Iterator[range]:
    for start in range(0, count, BATCH):
        yield range(start, min(start + BATCH, count))


class Filler:
    """Writes what a `Maker` makes."""

    def __init__(self, session: Session, seed: int, options: Options) -> None:
        """Start from `seed` and from what is there, so that a second run with the same seed makes other rows."""
        self.session = session
        self._password = options.password
        self._password_hash: str | None = None
        self.logins: tuple[str, ...] = ()
        """Those of `DEMO_NAMES` that have been made."""
        with transaction(session):
            last = tuple(session.execute(_LAST_KEYS).one())
        until = options.until or datetime.now(UTC).replace(microsecond=0)
        self._maker = Maker(Random(f"{seed} {last}"), until)  # noqa: S311 - keeps no secret

    def check_orders_possible(self, users: int, products: int) -> None:
        """See that there is, or will be, somebody to order and something to be ordered.

        Raises:
            NothingToOrderError: if not.
        """
        with transaction(self.session):
            for name, count, bounds in (("users", users, _BUYER_RANGE), ("products", products, _WARE_RANGE)):
                if not count and self.session.execute(bounds).one()[0] is None:
                    raise NothingToOrderError(f"There are no {name} to make orders of; make some, too.")

    def add_users(self, count: int) -> None:
        """Add users with their profiles and roles."""
        if self._password and not self._password_hash:
            # Hashing is slow on purpose; all share one.
            service = UserService(User, self.session)
            self._password_hash = service.prepared({"password": self._password})["password_hash"]
        with transaction(self.session):
            roles = self._named(Role, {name: {"description": about} for name, (about, _) in words.ROLES.items()})
            made = self._distinct(
                "users", count, lambda key: self._maker.user(key, self._password_hash, roles), _TAKEN_USERNAMES
            )
            if self._password and not self.logins:
                self._name_some(made, roles)
            self._copy("users", rows.USERS, [user for user, _, _ in made])
            self._copy("profiles", rows.PROFILES, [profile for _, profile, _ in made])
            self._copy("user_roles", rows.USER_ROLES, [role for _, _, role in made])

    def _name_some(self, made: list[tuple[Row, Row, Row]], roles: Mapping[str, int]) -> None:
        """Let the last of these users bear the `DEMO_NAMES` that nobody has, and hold the roles of these names."""
        taken = set(self.session.scalars(_TAKEN_USERNAMES, {"names": [*DEMO_NAMES]}))
        free = [name for name in DEMO_NAMES if name not in taken][-len(made) :]
        for place, name in enumerate(reversed(free), 1):
            (key, _, _, password_hash, _, *times), profile, (_, _, created) = made[-place]
            user = (key, name, f"{name}@example.com", password_hash, True, *times)
            made[-place] = (user, profile, (key, roles[name], created))
        self.logins = tuple(free)

    def add_products(self, count: int) -> None:
        """Add products with their tags."""
        with transaction(self.session):
            categories = self._named(Category, {name: {} for name in words.SHELVES})
            tags = self._named(Tag, {name: {} for name in words.TAGS})
            made = self._distinct(
                "products", count, lambda key: self._maker.product(key, categories, tags), _TAKEN_SKUS
            )
            self._copy("products", rows.PRODUCTS, [product for product, _ in made])
            self._copy("product_tags", rows.PRODUCT_TAGS, [tag for _, tagged in made for tag in tagged])

    def add_orders(self, numbers: range, count: int) -> int:
        """Add the orders with these numbers out of `count`, and return how many items they have.

        What the open ones hold is taken from the stock.
        """
        with transaction(self.session):
            unpublished(self.session)
            buyers = [Buyer(*row) for row in self._sample(_BUYERS, _BUYER_RANGE)]
            wares = [Ware(*row) for row in self._sample(_WARES, _WARE_RANGE)]
            made = self._maker.orders(numbers, count, buyers, wares)
            self._copy("orders", rows.ORDERS, made.orders)
            self._copy("order_items", rows.ORDER_ITEMS, made.items)
            if made.taken:
                values = {"keys": [*made.taken], "quantities": [*made.taken.values()]}
                self.session.execute(_TAKE, values)
        return len(made.items)

    def analyze(self) -> None:
        """Tell the planner of the new rows now rather than in a minute."""
        with transaction(self.session):
            self.session.execute(text(f"ANALYZE {_TABLES}"))

    def _named(self, model: Any, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """Keys of rows by name; those that are missing are made."""
        service: Service[Any] = Service(model, self.session)
        condition = func.lower(model.name).in_([name.lower() for name in wanted])
        found = {row.name.lower(): row.id for row in service.repository.list(condition)}
        for name, values in wanted.items():
            if name.lower() not in found:
                found[name.lower()] = service.create({"name": name, **values}).id
        return {name: found[name.lower()] for name in wanted}

    def _distinct(self, table: str, count: int, make: Callable[[int], R], taken: TextClause) -> list[R]:
        """Make so many rows of `table`, with keys that the database counts.

        Their names hold the keys and so never meet each other; those that somebody has chosen by hand are left out.
        """
        made: list[R] = []
        while len(made) < count:
            keys = self.session.scalars(_NEXT_KEYS, {"table": table, "count": count - len(made)})
            fresh = {row[0][1].lower(): row for row in map(make, keys)}
            clashes = set(self.session.scalars(taken, {"names": [*fresh]}))
            made += [row for name, row in fresh.items() if name not in clashes]
        return made

    def _sample(self, statement: TextClause, bounds: TextClause) -> Iterable[Row]:
        """All live rows of a small table; of a large one, some from everywhere."""
        first, last = self.session.execute(bounds).one()
        if first is None:
            raise NothingToOrderError("Somebody has deleted all users or products meanwhile.")
        places = [first]
        if last - first >= _SAMPLE:
            places = [self._maker.random.randint(first, last) for _ in range(_PLACES)]
        return self.session.execute(statement, {"places": places, "size": _SAMPLE // len(places)})

    def _copy(self, table: str, columns: Sequence[str], lines: Iterable[Row]) -> None:
        data = io.StringIO()
        data.writelines("\t".join(map(_field, line)) + "\n" for line in lines)
        data.seek(0)
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
        connection: Any = self.session.connection().connection
        with closing(connection.cursor()) as cursor:
            try:
                cursor.copy_expert(statement, data)
            except psycopg2.Error as error:
                # SQLAlchemy did not see the statement, and its users know its errors only.
                raise DBAPIError(statement, None, error) from error


def _field(value: object) -> str:
    """A value in COPY's text format."""
    return "\\N" if value is None else str(value).translate(_ESCAPES)
