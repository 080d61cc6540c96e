"""Litestar with advanced-alchemy: controllers, services on repositories, and msgspec's structs in and out."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import urlencode

from advanced_alchemy.extensions.litestar import (
    AsyncSessionConfig,
    EngineConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemyPlugin,
    repository,
    service,
)
from advanced_alchemy.extensions.litestar.providers import create_service_provider
from advanced_alchemy.filters import LimitOffset
from litestar import Controller, Litestar, Response, get, post
from litestar.di import Provide
from litestar.exceptions import ClientException, HTTPException, NotFoundException
from litestar.params import Parameter
from litestar.status_codes import HTTP_304_NOT_MODIFIED, HTTP_409_CONFLICT
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import joinedload, selectinload

from benchmarks.peers.litestar.schemas import (
    CountedPage,
    DetailedOrderOut,
    DetailedPage,
    DetailedProductOut,
    OrderIn,
    OrderOut,
    Page,
    ProductIn,
    ProductOut,
)
from benchmarks.peers.shop import (
    PAGE_SIZE,
    Category,
    Order,
    OrderItem,
    Product,
    Tag,
    User,
    after,
    encode_cursor,
    etag,
    live,
    matches,
    rank,
)

PRODUCTS = "/api/v1/products"
ORDERS = "/api/v1/orders"

PageSize = Annotated[int, Parameter(ge=1, le=100)]
PageNumber = Annotated[int, Parameter(ge=1)]
Text = Annotated[str, Parameter(min_length=1, max_length=200)]
KnownTag = Annotated[str | None, Parameter(header="If-None-Match")]

BY_PRICE = [(Product.price, False), (Product.id, False)]
DETAILS = [joinedload(Product.category.and_(live(Category))), selectinload(Product.tags.and_(live(Tag)))]
ORDER_DETAILS = [
    joinedload(Order.user.and_(live(User))),
    selectinload(Order.items).joinedload(OrderItem.product.and_(live(Product))),
]


class ProductService(service.SQLAlchemyAsyncRepositoryService[Product]):
    """Products."""

    class Repo(repository.SQLAlchemyAsyncRepository[Product]):
        """Where they are."""

        model_type = Product

    repository_type = Repo

    async def page(
        self, category: int, price: Decimal, limit: int, cursor: str | None, load: Any = None
    ) -> tuple[Sequence[Product], str | None]:
        """Rows, and the cursor of the next page: one row more than is shown tells whether there is one."""
        conditions: list[ColumnElement[bool]] = wanted(category, price)
        if cursor is not None:
            try:
                conditions.append(after(cursor))
            except (ValueError, ArithmeticError) as error:
                raise ClientException("cursor: Must be a cursor of this list.") from error
        rows = await self.get_many(*conditions, LimitOffset(limit + 1, 0), order_by=BY_PRICE, load=load)
        items = rows[:limit]
        return items, encode_cursor(items[-1]) if len(rows) > limit else None


class OrderService(service.SQLAlchemyAsyncRepositoryService[Order]):
    """Orders."""

    class Repo(repository.SQLAlchemyAsyncRepository[Order]):
        """Where they are."""

        model_type = Order

    repository_type = Repo

    async def place(self, data: OrderIn) -> Order:
        """Insert an order; its items are taken from the stock, whose rows are locked in ascending order."""
        session = self.repository.session
        keys = {item.product_id for item in data.items}
        locked = select(Product).where(Product.id.in_(keys), live(Product)).order_by(Product.id).with_for_update()
        products = {product.id: product for product in await session.scalars(locked)}
        if missing := keys - products.keys():
            raise ClientException(f"There is no product {min(missing)}.")
        items = []
        for line in data.items:
            product = products[line.product_id]
            if product.stock_quantity < line.quantity:
                detail = f"Only {product.stock_quantity} of product {product.id} left."
                raise HTTPException(detail, status_code=HTTP_409_CONFLICT)
            product.stock_quantity -= line.quantity
            items.append(OrderItem(product_id=product.id, quantity=line.quantity, unit_price=product.price))
        total = sum(item.unit_price * item.quantity for item in items)
        order = Order(user_id=data.user_id, status="pending", total_amount=total, metadata_=data.metadata, items=items)
        return await self.create(order)


def wanted(category: int, price: Decimal) -> list[ColumnElement[bool]]:
    """The conditions of a list; msgspec has no limits for a Decimal."""
    if price < 0:
        raise ClientException("price__gte: Must not be negative.")
    return [Product.category_id == category, Product.price >= price, live(Product)]


def link(path: str, **query: Any) -> str:
    """The next page's path and query."""
    return f"{path}?{urlencode(query)}"


class ProductController(Controller):
    """The API of products."""

    path = PRODUCTS
    dependencies = {"products": Provide(create_service_provider(ProductService))}  # noqa: RUF012 - Litestar's way

    @get("/")
    async def page(
        self,
        products: ProductService,
        category_id: int,
        price__gte: Decimal = Decimal(0),
        limit: PageSize = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Page:
        """A page by cursor."""
        rows, last = await products.page(category_id, price__gte, limit, cursor)
        items = products.to_schema(rows, schema_type=ProductOut).items
        following = last and link(PRODUCTS, category_id=category_id, price__gte=price__gte, limit=limit, cursor=last)
        return Page(items=items, next=following)

    @get("/detailed")
    async def detailed(
        self,
        products: ProductService,
        category_id: int,
        price__gte: Decimal = Decimal(0),
        limit: PageSize = PAGE_SIZE,
        cursor: str | None = None,
    ) -> DetailedPage:
        """A page by cursor, with category and tags."""
        rows, last = await products.page(category_id, price__gte, limit, cursor, DETAILS)
        items = products.to_schema(rows, schema_type=DetailedProductOut).items
        path = f"{PRODUCTS}/detailed"
        following = last and link(path, category_id=category_id, price__gte=price__gte, limit=limit, cursor=last)
        return DetailedPage(items=items, next=following)

    @get("/numbered")
    async def numbered(
        self,
        products: ProductService,
        category_id: int,
        price__gte: Decimal = Decimal(0),
        page: PageNumber = 1,
        per_page: PageSize = PAGE_SIZE,
    ) -> CountedPage:
        """A page by number, with the total."""
        skipped = LimitOffset(per_page, (page - 1) * per_page)
        rows, total = await products.get_many_and_count(
            *wanted(category_id, price__gte), skipped, order_by=BY_PRICE, count_with_window_function=False
        )
        items = products.to_schema(rows, schema_type=ProductOut).items
        query = {"category_id": category_id, "price__gte": price__gte, "per_page": per_page, "page": page + 1}
        following = link(f"{PRODUCTS}/numbered", **query) if page * per_page < total else None
        return CountedPage(items=items, next=following, total=total)

    @get("/search")
    async def search(self, products: ProductService, q: Text, page: PageNumber = 1) -> Page:
        """A page of what has the words, best first."""
        best = select(Product).order_by(rank(q).desc(), Product.id.desc())
        rows = await products.get_many(
            matches(q), live(Product), LimitOffset(PAGE_SIZE + 1, (page - 1) * PAGE_SIZE), statement=best
        )
        items = products.to_schema(rows[:PAGE_SIZE], schema_type=ProductOut).items
        following = link(f"{PRODUCTS}/search", q=q, page=page + 1) if len(rows) > PAGE_SIZE else None
        return Page(items=items, next=following)

    @get("/{key:int}")
    async def one(self, products: ProductService, key: int, known: KnownTag = None) -> Response[ProductOut | None]:
        """One product; 304 where the client has this version."""
        product = await products.get_one_or_none(Product.id == key, live(Product))
        if product is None:
            raise NotFoundException
        tag = {"ETag": etag(product)}
        if known == tag["ETag"]:
            return Response(None, status_code=HTTP_304_NOT_MODIFIED, headers=tag)
        return Response(products.to_schema(product, schema_type=ProductOut), headers=tag)

    @post("/")
    async def create(self, products: ProductService, data: ProductIn) -> Response[ProductOut]:
        """A new product."""
        values = {name: getattr(data, name) for name in data.__struct_fields__ if name != "metadata"}
        product = await products.create(Product(metadata_=data.metadata, **values))
        headers = {"ETag": etag(product), "Location": f"{PRODUCTS}/{product.id}"}
        return Response(products.to_schema(product, schema_type=ProductOut), headers=headers)


class OrderController(Controller):
    """The API of orders."""

    path = ORDERS
    dependencies = {"orders": Provide(create_service_provider(OrderService))}  # noqa: RUF012 - Litestar's way

    @get("/{key:uuid}")
    async def one(self, orders: OrderService, key: uuid.UUID) -> Response[DetailedOrderOut]:
        """One order, with its user, items and their products."""
        order = await orders.get_one_or_none(Order.id == key, live(Order), load=ORDER_DETAILS)
        if order is None:
            raise NotFoundException
        return Response(orders.to_schema(order, schema_type=DetailedOrderOut), headers={"ETag": etag(order)})

    @post("/")
    async def create(self, orders: OrderService, data: OrderIn) -> Response[OrderOut]:
        """A new order."""
        order = await orders.place(data)
        headers = {"ETag": etag(order), "Location": f"{ORDERS}/{order.id}"}
        return Response(orders.to_schema(order, schema_type=OrderOut), headers=headers)


alchemy = SQLAlchemyPlugin(
    config=SQLAlchemyAsyncConfig(
        connection_string=os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1),
        session_config=AsyncSessionConfig(expire_on_commit=False),
        engine_config=EngineConfig(pool_size=16, max_overflow=0),
        before_send_handler="autocommit",
    )
)
app = Litestar(route_handlers=[ProductController, OrderController], plugins=[alchemy], openapi_config=None)
