"""Rules of orders: prices and totals are the server's, stock is taken and given back with the order, never oversold."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Integer, any_, bindparam, cast, func, select, update
from sqlalchemy.orm.util import identity_key

from api.core.database.prepared import array
from api.core.database.within import connection_of, run_later
from api.core.errors import ConflictError, InvalidError, Violation, invalid_field, pointer_to
from api.core.query.compiled import compiled
from api.core.resource.service import Service
from api.resources.orders.models import Order, OrderItem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LARGEST_STOCK = 2**31 - 1
_LARGEST_TOTAL = Decimal("99999999.99")


class OrderService(Service[Order]):
    """Create, change and cancel orders."""

    def create(self, data: Mapping[str, Any]) -> Order:
        """Insert an order with its items and take them from the stock, in the caller's transaction.

        Raises:
            InvalidError: for no items, for a product or user that is not there, or a total too large to store.
            ConflictError: naming each item of which there is not enough left.
        """
        order = self.prepared({name: value for name, value in data.items() if name != "items"})
        if order.get("status", "pending") != "pending":
            raise invalid_field("status", "A new order is pending.")
        items: Sequence[Mapping[str, Any]] = data.get("items") or ()
        prices = self._take(items)
        return self._insert(order, [OrderItem(**item, unit_price=prices[item["product_id"]]) for item in items])

    def record(self, data: Mapping[str, Any]) -> Order:
        """Insert an order that was made and sent elsewhere, with the prices, status and date that `data` has.

        The stock is not touched: these goods have left already. The total is computed here all the same.

        Raises:
            InvalidError: for no items, for an open status, which would hold stock, for a user that is not there, or a
                total too large to store.
        """
        order = self.prepared({name: value for name, value in data.items() if name != "items"})
        if order.get("status", "pending") in Order.OPEN:
            raise invalid_field("status", "An order of the past is not open.")
        return self._insert(order, [OrderItem(**item) for item in data.get("items") or ()])

    def _insert(self, order: Mapping[str, Any], lines: list[OrderItem]) -> Order:
        if not lines:
            raise invalid_field("items", "An order has at least one item.")
        total = sum((line.unit_price * line.quantity for line in lines), Decimal(0))
        if total > _LARGEST_TOTAL:
            raise invalid_field("items", f"The total is above {_LARGEST_TOTAL}.")
        return self.repository.add(Order(**order, items=lines, total_amount=total))

    def update(self, row: Order, data: Mapping[str, Any]) -> Order:
        """Change an order; cancelling gives its items back to the stock."""
        before = row.status
        changed = super().update(row, data)
        if changed.status == "cancelled" and before != "cancelled":
            self._give_back(row)
        return changed

    def look_up(self, items: Sequence[Mapping[str, Any]], rows: Sequence[Order]) -> None:
        """Find the users, and lock the products that orders are about to take from or give back to the stock."""
        super().look_up(items, rows)
        ordered = {line["product_id"] for item in items for line in item.get("items") or ()}
        if any(item.get("status") == "cancelled" for item in items):
            keys = [row.id for row in rows]
            ordered |= {*self.session.scalars(select(OrderItem.product_id).where(OrderItem.order_id.in_(keys)))}
        self._lock_products(ordered, include_deleted=True)

    def _take(self, items: Sequence[Mapping[str, Any]]) -> dict[int, Decimal]:
        """Lower the stock of what `items` ask for, and return the prices of the products by id."""
        products = self._stock(item["product_id"] for item in items)
        missing = [
            Violation(f"There is no product {item['product_id']}.", pointer=pointer_to(["items", number, "product_id"]))
            for number, item in enumerate(items)
            if item["product_id"] not in products
        ]
        if missing:
            raise InvalidError(violations=missing)
        taken: Counter[int] = Counter()
        short: list[Violation] = []
        for number, item in enumerate(items):
            key = item["product_id"]
            left = products[key].stock_quantity - taken[key]
            if left < item["quantity"]:
                detail = f"Only {left} of product {key} left."
                short.append(Violation(detail, pointer=pointer_to(["items", number, "quantity"])))
            else:
                taken[key] += item["quantity"]
        if short:
            raise ConflictError("There is not enough in stock.", violations=short)
        self._lower(taken)
        return {key: product.price for key, product in products.items()}

    def _stock(self, keys: Iterable[int]) -> dict[int, _Stock]:
        """What is left of the live products with these keys, locked in ascending order; see `_lock_products`."""
        if self.session.autoflush:
            self.session.flush()
        found = connection_of(self.session).exec_driver_sql(
            _lock_stock(_products()), {"keys": array(sorted(set(keys)))}
        )
        return {key: _Stock(price, quantity) for key, price, quantity in found.all()}

    def _lower(self, taken: Mapping[int, int]) -> None:
        """Lower the stock of locked products, all with one statement; the database moves their versions."""
        if not taken:
            return
        values = {"keys": array(taken), "taken": array(taken.values())}
        run_later(self.session, _lower_stock(_products().__table__), values)
        for key in taken:
            loaded = self.session.identity_map.get(identity_key(_products(), key))
            if loaded is not None:
                self.session.expire(loaded, ["stock_quantity", "updated_at", "version"])

    def _give_back(self, order: Order) -> None:
        items = self.session.scalars(select(OrderItem).where(OrderItem.order_id == order.id)).all()
        returned: Counter[int] = Counter()
        for item in items:
            returned[item.product_id] += item.quantity
        for product in self._lock_products(returned, include_deleted=True).values():
            if product.stock_quantity + returned[product.id] > _LARGEST_STOCK:
                raise ConflictError(
                    f"Product {product.id} would have more in stock than can be counted; lower it first."
                )
            product.stock_quantity += returned[product.id]
        self.session.flush()

    def _lock_products(self, keys: Iterable[int], *, include_deleted: bool = False) -> dict[int, Any]:
        """The products with these keys, locked in ascending order, so that no two orders wait for each other."""
        product = _products()
        statement = (
            select(product)
            .where(product.id.in_(sorted(set(keys))))
            .order_by(product.id)
            .with_for_update()
            .execution_options(populate_existing=True, include_deleted=include_deleted)
        )
        return {row.id: row for row in self.session.scalars(statement)}


class _Stock(NamedTuple):
    """What is left of a product, and what it costs."""

    price: Decimal
    stock_quantity: int


def _products() -> Any:
    """The model of products, which the one of items knows."""
    return OrderItem.product.property.entity.class_


@lru_cache(1)
def _lock_stock(product: Any) -> str:
    keys: Any = bindparam("keys", type_=ARRAY(BigInteger))
    wanted = select(product.id, product.price, product.stock_quantity).where(product.id == any_(cast(keys, keys.type)))
    return compiled(wanted.where(product.deleted_at.is_(None)).order_by(product.id).with_for_update())


@lru_cache(1)
def _lower_stock(products: Any) -> str:
    """Made once: the database's answer takes less time than the making."""
    keys, taken = bindparam("keys", type_=ARRAY(BigInteger)), bindparam("taken", type_=ARRAY(Integer))
    lines = func.unnest(keys, taken).table_valued("product_id", "taken").render_derived(name="lines")
    left = products.c.stock_quantity - lines.c.taken
    return compiled(update(products).where(products.c.id == lines.c.product_id).values(stock_quantity=left))
