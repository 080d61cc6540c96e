"""The rows that all contenders read and write: a shop, made by a handful of set-based statements."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2

if TYPE_CHECKING:
    from collections.abc import Callable

CATEGORIES = 50
TAGS = 100
ITEMS_PER_ORDER = 3
STOCK = 1_000_000
"""Of each product: no order of the load finds too little."""

# fmt: off
ADJECTIVES = (
    "amber", "blue", "classic", "copper", "cosy", "crimson", "deep", "elegant", "folding", "gentle", "golden",
    "green", "grey", "heavy", "ivory", "light", "little", "modern", "narrow", "plain", "quiet", "red", "round",
    "rustic", "silver", "slim", "soft", "square", "sturdy", "tall",
)
MATERIALS = (
    "bamboo", "brass", "canvas", "ceramic", "cork", "cotton", "felt", "glass", "granite", "jute", "leather", "linen",
    "marble", "oak", "steel", "wool",
)
THINGS = (
    "apron", "basket", "bench", "blanket", "board", "bottle", "bowl", "bucket", "cabinet", "candle", "chair", "clock",
    "cup", "curtain", "cushion", "desk", "drawer", "frame", "hook", "jar", "kettle", "ladle", "lamp", "mirror", "mug",
    "pan", "pillow", "pitcher", "plate", "pot", "rack", "rug", "scarf", "shelf", "spoon", "stool", "table", "teapot",
    "towel", "tray", "vase",
)
# fmt: on


@dataclass(frozen=True)
class Scale:
    """How many rows there are."""

    products: int = 100_000
    users: int = 10_000
    orders: int = 1_000_000

    def shrunk(self, factor: float) -> Scale:
        """`factor` of them, yet never too few for the works."""
        return Scale(
            max(20_000, int(self.products * factor)),
            max(100, int(self.users * factor)),
            max(1_000, int(self.orders * factor)),
        )


def words(names: tuple[str, ...], number: str) -> str:
    """The SQL of one of `names`, picked by the SQL of a number."""
    array = ", ".join(f"'{name}'" for name in names)
    return f"(ARRAY[{array}])[1 + ({number}) % {len(names)}]"


# A number that looks like chance and is the same every time: Knuth's multiplicative hash.
_MIXED = "(n * 2654435761 % 4294967296)"
_NAME = (
    f"initcap({words(ADJECTIVES, _MIXED)}) || ' ' || {words(MATERIALS, f'{_MIXED} / 31')} || ' ' || "
    f"{words(THINGS, f'{_MIXED} / 523')}"
)
_DESCRIPTION = (
    f"'A ' || {words(ADJECTIVES, f'{_MIXED} / 7')} || ' piece of ' || {words(MATERIALS, f'{_MIXED} / 11')} || "
    f"', made to go with your ' || {words(THINGS, f'{_MIXED} / 13')} || ' and your ' || "
    f"{words(THINGS, f'{_MIXED} / 17')} || '. Washable, and sent within two days.'"
)


def statements(scale: Scale) -> dict[str, str]:
    """What fills the tables, by name. The same rows every time, but for the keys of the orders."""

    def made(number: int) -> str:
        """So many rows, spread over four years, so that the indexes on their time are like real ones."""
        moment = f"timestamptz '2022-01-01 00:00+00' + n * interval '4 years' / {number}"
        return f"generate_series(1, {number}::bigint) n, LATERAL (SELECT {moment} AS at) made"

    return {
        f"{CATEGORIES} categories": f"""
            INSERT INTO categories (id, name, description)
            SELECT n, 'Category ' || n, 'All of shelf ' || n FROM generate_series(1, {CATEGORIES}) n
        """,
        f"{TAGS} tags": f"INSERT INTO tags (id, name) SELECT n, 'tag ' || n FROM generate_series(1, {TAGS}) n",
        f"{scale.users:,} users": f"""
            INSERT INTO users (id, username, email, created_at, updated_at)
            SELECT n, 'user' || n, 'user' || n || '@example.com', at, at FROM {made(scale.users)}
        """,
        f"{scale.products:,} products": f"""
            INSERT INTO products (
                id, sku, name, description, price, stock_quantity, category_id, metadata, created_at, updated_at
            )
            SELECT
                n, 'SKU-' || n, {_NAME}, {_DESCRIPTION}, (100 + {_MIXED} % 19900) / 100.0, {STOCK},
                1 + {_MIXED} / 5 % {CATEGORIES},
                jsonb_build_object('colour', {words(ADJECTIVES, f"{_MIXED} / 19")}, 'weight', n % 5000), at, at
            FROM {made(scale.products)}
        """,
        f"{3 * scale.products:,} tags of products": f"""
            INSERT INTO product_tags (product_id, tag_id)
            SELECT n, 1 + (n * 7 + k * 33) % {TAGS} FROM generate_series(1, {scale.products}) n, generate_series(0, 2) k
        """,
        f"{scale.orders:,} orders": f"""
            INSERT INTO orders (id, user_id, status, total_amount, metadata, created_at, updated_at)
            SELECT
                uuidv7(at - now()), 1 + {_MIXED} % {scale.users},
                (ARRAY['delivered', 'delivered', 'shipped', 'cancelled', 'processing'])[1 + n % 5],
                (500 + {_MIXED} % 90000) / 100.0,
                jsonb_build_object('channel', (ARRAY['web', 'shop', 'phone'])[1 + n % 3]), at, at
            FROM {made(scale.orders)}
        """,
        f"{ITEMS_PER_ORDER * scale.orders:,} items": f"""
            INSERT INTO order_items (order_id, product_id, quantity, unit_price, created_at, updated_at)
            SELECT
                id, 1 + {_MIXED} / 3 % {scale.products}, 1 + n % 4, (100 + n % 9900) / 100.0, created_at, created_at
            FROM (
                SELECT id, created_at, row_number() OVER (ORDER BY id) * 4 + k AS n
                FROM orders, generate_series(1, {ITEMS_PER_ORDER}) k
            ) lines
        """,
    }


# Without those of constraints. An index is made in a fraction of the time that it takes to keep it up.
_INDEXES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
    WHERE indrelid IN ('products'::regclass, 'product_tags'::regclass, 'orders'::regclass, 'order_items'::regclass)
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
_COUNTED = ("categories", "tags", "users", "products", "order_items")


def fill(url: str, scale: Scale, tell: Callable[[str], None]) -> None:
    """Fill the empty tables of the database at `url`, whose user is a superuser, and have them analysed."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        # Neither foreign keys nor history: the rows are right, and have always been there.
        cursor.execute("SET session_replication_role = replica; SET synchronous_commit = off; SET work_mem = '256MB'")
        cursor.execute("SET maintenance_work_mem = '1GB'")
        cursor.execute(_INDEXES)
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        for title, statement in {**statements(scale), **dict(indexes)}.items():
            begin = time.monotonic()
            cursor.execute(statement)
            tell(f"  {title}: {time.monotonic() - begin:.1f} s")
        for table in _COUNTED:
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
        begin = time.monotonic()
        cursor.execute("VACUUM (ANALYZE, FREEZE)")
        cursor.execute("CHECKPOINT")
        tell(f"  vacuumed and analysed: {time.monotonic() - begin:.1f} s")
    connection.close()
