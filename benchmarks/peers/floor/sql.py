"""The floor's statements: each gives the JSON of the answer as text, one statement a read."""

from __future__ import annotations


def _moment(column: str) -> str:
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS {column.rpartition(".")[2]}"""


def _stamps(table: str) -> str:
    columns = ("created_at", "updated_at", "deleted_at")
    return ", ".join(_moment(f"{table}.{column}") for column in columns) + f", {table}.version"


def _product(table: str) -> str:
    return (
        f"{table}.id, {table}.sku, {table}.name, {table}.description, {table}.price::text AS price, "
        f"{table}.stock_quantity, {table}.category_id, {table}.metadata, {_stamps(table)}"
    )


_ORDER = f"o.id, o.user_id, o.status, o.total_amount::text AS total_amount, o.metadata, {_stamps('o')}"

PRODUCT = (
    f"SELECT row_to_json(r)::text, r.version FROM (SELECT {_product('p')} FROM products p "
    "WHERE p.id = %s AND p.deleted_at IS NULL) r"
)
PRODUCT_UNLESS_KNOWN = (
    f"SELECT CASE WHEN %s <> '\"' || r.id || '-' || r.version || '\"' THEN row_to_json(r)::text END, r.version "
    f"FROM (SELECT {_product('p')} FROM products p WHERE p.id = %s AND p.deleted_at IS NULL) r"
)

_FILTER = "category_id = %s AND price >= %s::numeric AND deleted_at IS NULL"
_AFTER = "AND (price, id) > (%s::numeric, %s)"
_RELATED = f"""
    , (SELECT row_to_json(r) FROM (
        SELECT c.id, c.name, c.description, {_stamps("c")} FROM categories c
        WHERE c.id = p.category_id AND c.deleted_at IS NULL
    ) r) AS category
    , (SELECT coalesce(json_agg(r), '[]') FROM (
        SELECT t.id, t.name, {_stamps("t")} FROM product_tags l JOIN tags t ON t.id = l.tag_id
        WHERE l.product_id = p.id AND t.deleted_at IS NULL ORDER BY t.id
    ) r) AS tags
"""


def _page(condition: str, related: str = "") -> str:
    """Rows, whether there are more, and price and key of the last one: one row more is read than shown."""
    return f"""
        SELECT
            '[' || coalesce(string_agg(row_to_json(r)::text, ',') FILTER (WHERE p.n <= p.size), '') || ']',
            count(*) > max(p.size),
            max(json_build_array(p.price::text, p.id)::text) FILTER (WHERE p.n = p.size)
        FROM (
            SELECT *, row_number() OVER () AS n, %s AS size FROM (
                SELECT * FROM products WHERE {_FILTER} {condition} ORDER BY price, id LIMIT %s
            ) found
        ) p
        CROSS JOIN LATERAL (SELECT {_product("p")} {related}) r
    """


PAGE, NEXT_PAGE = _page(""), _page(_AFTER)
DETAILED_PAGE, NEXT_DETAILED_PAGE = _page("", _RELATED), _page(_AFTER, _RELATED)

NUMBERED = f"""
    SELECT
        (SELECT '[' || coalesce(string_agg(row_to_json(r)::text, ','), '') || ']' FROM (
            SELECT {_product("p")} FROM (
                SELECT * FROM products WHERE {_FILTER} ORDER BY price, id LIMIT %s OFFSET %s
            ) p
        ) r),
        (SELECT count(*) FROM products WHERE {_FILTER})
"""

SEARCH = f"""
    SELECT '[' || coalesce(string_agg(row_to_json(r)::text, ',') FILTER (WHERE p.n <= 20), '') || ']', count(*) > 20
    FROM (
        SELECT *, row_number() OVER () AS n FROM (
            SELECT products.*, ts_rank_cd(search_vector, query, 1) AS rank
            FROM products, websearch_to_tsquery('english', %s) query
            WHERE search_vector @@ query AND deleted_at IS NULL ORDER BY rank DESC, id DESC LIMIT 21
        ) found
    ) p
    CROSS JOIN LATERAL (SELECT {_product("p")}) r
"""

CREATE_PRODUCT = f"""
    WITH p AS (
        INSERT INTO products (sku, name, description, price, stock_quantity, category_id, metadata)
        VALUES (%s, %s, %s, %s::numeric, %s, %s, %s::jsonb) RETURNING *
    )
    SELECT row_to_json(r)::text, r.id FROM (SELECT {_product("p")} FROM p) r
"""

LOCK_PRODUCTS = (
    "SELECT id, stock_quantity FROM products WHERE id = ANY(%s) AND deleted_at IS NULL ORDER BY id FOR UPDATE"
)
# The lock is a statement of its own: a later one sees what the transaction before it has written.
CREATE_ORDER = f"""
    WITH lines AS (
        SELECT l.*, p.price FROM unnest(%s::bigint[], %s::integer[]) WITH ORDINALITY l (product_id, quantity, n)
        JOIN products p ON p.id = l.product_id
    ), taken AS (
        UPDATE products SET stock_quantity = stock_quantity - t.quantity
        FROM (SELECT product_id, sum(quantity)::integer AS quantity FROM lines GROUP BY 1) t
        WHERE products.id = t.product_id
    ), o AS (
        INSERT INTO orders (id, user_id, status, total_amount)
        SELECT uuidv7(), %s, 'pending', sum(price * quantity) FROM lines RETURNING *
    ), items AS (
        INSERT INTO order_items (order_id, product_id, quantity, unit_price)
        SELECT o.id, product_id, quantity, price FROM lines, o ORDER BY n
    )
    SELECT row_to_json(r)::text, r.id FROM (SELECT {_ORDER} FROM o) r
"""

ORDER = f"""
    SELECT row_to_json(r)::text FROM (
        SELECT {_ORDER}, (
            SELECT coalesce(json_agg(r), '[]') FROM (
                SELECT i.id, i.product_id, i.quantity, i.unit_price::text AS unit_price, (
                    SELECT row_to_json(r) FROM (
                        SELECT {_product("p")} FROM products p WHERE p.id = i.product_id AND p.deleted_at IS NULL
                    ) r
                ) AS product
                FROM order_items i WHERE i.order_id = o.id ORDER BY i.id
            ) r
        ) AS items, (
            SELECT row_to_json(r) FROM (
                SELECT u.id, u.username, u.email, u.is_active, {_stamps("u")} FROM users u
                WHERE u.id = o.user_id AND u.deleted_at IS NULL
            ) r
        ) AS "user"
        FROM orders o WHERE o.id = %s AND o.deleted_at IS NULL
    ) r
"""
