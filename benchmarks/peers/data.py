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

ADJECTIVES = (
    "amber blue classic copper cosy crimson deep elegant folding gentle golden green grey heavy ivory light little "
    "modern narrow plain quiet red round rustic silver slim soft square sturdy tall"
).split()
MATERIALS = "bamboo brass canvas ceramic cork cotton felt glass granite jute leather linen marble oak steel wool".split()
THINGS = (
    "apron basket bench blanket board bottle bowl bucket cabinet candle chair clock cup curtain cushion desk drawer "
    "frame hook jar kettle ladle lamp mirror mug pan pillow pitcher plate pot rack rug scarf shelf spoon stool table "
    "teapot towel tray vase"
).split()


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


def words(names: list[str], number: str) -> str:
    """The SQL of one of `names`, picked by the SQL of a number."""
    array = ", ".join(f"'{name}'" for name in names)
    return f"(ARRAY[{array}])[1 + ({number}) % {len(names)}]"


def statements(scale: Scale) -> list[tuple[str, str]]:
    """What fills the tables, each with its name. The same rows every time, but for the keys of the orders."""
    mixed = "(n * 2654435761 % 4294967296)"
    name = (
        f"initcap({words(ADJECTIVES, mixed)}) || ' ' || {words(MATERIALS, f'{mixed} / 31')} || ' ' || "
        f"{words(THINGS, f'{mixed} / 523')}"
    )
    description = (
        f"'A ' || {words(ADJECTIVES, f'{mixed} / 7')} || ' piece of ' || {words(MATERIALS, f'{mixed} / 11')} || "
        f"', made to go with your ' || {words(THINGS, f'{mixed} / 13')} || ' and your ' || "
        f"{words(THINGS, f'{mixed} / 17')} || '. Washable, and sent within two days.'"
    )
    # Spread over four years, so that the index on it is like a real one.
    moment = "timestamptz '2022-01-01 00:00+00' + n * interval '4 years' / "
    product = f"1 + {mixed} / 3 % {scale.products}"
    return [
        (
            f"{CATEGORIES} categories",
            "INSERT INTO categories (id, name, description) "
            f"SELECT n, 'Category ' || n, 'All of shelf ' || n FROM generate_series(1, {CATEGORIES}) n",
        ),
        (f"{TAGS} tags", f"INSERT INTO tags (id, name) SELECT n, 'tag ' || n FROM generate_series(1, {TAGS}) n"),
        (
            f"{scale.users:,} users",
            "INSERT INTO users (id, username, email, created_at, updated_at) "
            "SELECT n, 'user' || n, 'user' || n || '@example.com', at, at "
            f"FROM generate_series(1, {scale.users}) n, LATERAL (SELECT {moment}{scale.users} AS at) made",
        ),
        (
            f"{scale.products:,} products",
            "INSERT INTO products (id, sku, name, description, price, stock_quantity, category_id, metadata, "
            f"created_at, updated_at) SELECT n, 'SKU-' || n, {name}, {description}, (100 + {mixed} % 19900) / 100.0, "
            f"{STOCK}, 1 + {mixed} / 5 % {CATEGORIES}, "
            "jsonb_build_object('colour', " + words(ADJECTIVES, f"{mixed} / 19") + ", 'weight', n % 5000), at, at "
            f"FROM generate_series(1, {scale.products}::bigint) n, "
            f"LATERAL (SELECT {moment}{scale.products} AS at) made",
        ),
        (
            f"{3 * scale.products:,} tags of products",
            "INSERT INTO product_tags (product_id, tag_id) "
            f"SELECT n, 1 + (n * 7 + k * 33) % {TAGS} FROM generate_series(1, {scale.products}) n, "
            "generate_series(0, 2) k",
        ),
        (
            f"{scale.orders:,} orders",
            "INSERT INTO orders (id, user_id, status, total_amount, metadata, created_at, updated_at) "
            f"SELECT uuidv7(at - now()), 1 + {mixed} % {scale.users}, "
            "(ARRAY['delivered','delivered','shipped','cancelled','processing'])[1 + n % 5], "
            f"(500 + {mixed} % 90000) / 100.0, jsonb_build_object('channel', (ARRAY['web','shop','phone'])[1 + n % 3]), "
            f"at, at FROM generate_series(1, {scale.orders}::bigint) n, "
            f"LATERAL (SELECT {moment}{scale.orders} AS at) made",
        ),
        (
            f"{ITEMS_PER_ORDER * scale.orders:,} items",
            "INSERT INTO order_items (order_id, product_id, quantity, unit_price, created_at, updated_at) "
            f"SELECT id, {product}, 1 + n % 4, (100 + n % 9900) / 100.0, created_at, created_at FROM "
            "(SELECT id, created_at, row_number() OVER (ORDER BY id) * 4 + k AS n FROM orders, "
            f"generate_series(1, {ITEMS_PER_ORDER}) k) lines",
        ),
        *(
            (f"numbers of {table}", f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
            for table in ("categories", "tags", "users", "products", "order_items")
        ),
    ]


def fill(url: str, scale: Scale, tell: Callable[[str], None]) -> None:
    """Fill the empty tables of the database at `url`, whose user is a superuser, and have them analysed."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        # Neither foreign keys nor history: the rows are right, and have always been there.
        cursor.execute("SET session_replication_role = replica; SET synchronous_commit = off; SET work_mem = '256MB'")
        for title, statement in statements(scale):
            begin = time.monotonic()
            cursor.execute(statement)
            tell(f"  {title}: {time.monotonic() - begin:.1f} s")
        begin = time.monotonic()
        cursor.execute("VACUUM (ANALYZE, FREEZE)")
        cursor.execute("CHECKPOINT")
        tell(f"  vacuumed and analysed: {time.monotonic() - begin:.1f} s")
    connection.close()
