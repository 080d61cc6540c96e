"""FastAPI, as its documentation shows it: pydantic models in and out, a session of SQLAlchemy as a dependency.

Answers are serialized by their response models, which is the fast way since 0.130 (`ORJSONResponse` is not any more).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Response, status
from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import joinedload, selectinload

from benchmarks.peers.fastapi.schemas import (
    CountedPage,
    DetailedOrderOut,
    DetailedPage,
    Filter,
    KeysetQuery,
    NumberedQuery,
    OrderIn,
    OrderOut,
    Page,
    ProductIn,
    ProductOut,
    SearchQuery,
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

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1),
    pool_size=16,
    max_overflow=0,
    json_deserializer=orjson.loads,
    json_serializer=lambda value: orjson.dumps(value).decode(),
)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


async def get_session() -> AsyncIterator[AsyncSession]:
    """One for each request."""
    async with sessions() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


def filtered(wanted: Filter) -> Select[tuple[Product]]:
    """The products that are asked for."""
    return (
        select(Product)
        .where(Product.category_id == wanted.category_id, Product.price >= wanted.price__gte, live(Product))
        .order_by(Product.price, Product.id)
    )


async def keyset_page(session: AsyncSession, path: str, wanted: KeysetQuery, *options: Any) -> dict[str, Any]:
    """One row more than is shown tells whether there is a next page."""
    statement = filtered(wanted).options(*options).limit(wanted.limit + 1)
    if wanted.cursor:
        try:
            statement = statement.where(after(wanted.cursor))
        except (ValueError, ArithmeticError) as error:
            raise HTTPException(status.HTTP_400_BAD_REQUEST, "cursor: Must be a cursor of this list.") from error
    rows = (await session.scalars(statement)).all()
    items, following = rows[: wanted.limit], None
    if len(rows) > wanted.limit:
        query = wanted.model_dump(exclude={"cursor"}) | {"cursor": encode_cursor(items[-1])}
        following = f"{path}?{urlencode(query)}"
    return {"items": items, "next": following}


@app.get(PRODUCTS, response_model=Page)
async def list_products(session: SessionDep, wanted: Annotated[KeysetQuery, Query()]) -> Any:
    """A page by cursor."""
    return await keyset_page(session, PRODUCTS, wanted)


@app.get(f"{PRODUCTS}/detailed", response_model=DetailedPage)
async def list_detailed_products(session: SessionDep, wanted: Annotated[KeysetQuery, Query()]) -> Any:
    """A page by cursor, with category and tags."""
    return await keyset_page(
        session,
        f"{PRODUCTS}/detailed",
        wanted,
        joinedload(Product.category.and_(live(Category))),
        selectinload(Product.tags.and_(live(Tag))),
    )


@app.get(f"{PRODUCTS}/numbered", response_model=CountedPage)
async def list_numbered_products(session: SessionDep, wanted: Annotated[NumberedQuery, Query()]) -> Any:
    """A page by number, with the total."""
    statement = filtered(wanted)
    total = await session.scalar(statement.with_only_columns(func.count()).order_by(None)) or 0
    skipped = (wanted.page - 1) * wanted.per_page
    items = (await session.scalars(statement.limit(wanted.per_page).offset(skipped))).all()
    following = None
    if skipped + len(items) < total:
        following = f"{PRODUCTS}/numbered?{urlencode(wanted.model_dump() | {'page': wanted.page + 1})}"
    return {"items": items, "next": following, "total": total}


@app.get(f"{PRODUCTS}/search", response_model=Page)
async def search_products(session: SessionDep, wanted: Annotated[SearchQuery, Query()]) -> Any:
    """A page of what has the words, best first."""
    statement = (
        select(Product)
        .where(matches(wanted.q), live(Product))
        .order_by(rank(wanted.q).desc(), Product.id.desc())
        .limit(PAGE_SIZE + 1)
        .offset((wanted.page - 1) * PAGE_SIZE)
    )
    rows = (await session.scalars(statement)).all()
    following = None
    if len(rows) > PAGE_SIZE:
        following = f"{PRODUCTS}/search?{urlencode({'q': wanted.q, 'page': wanted.page + 1})}"
    return {"items": rows[:PAGE_SIZE], "next": following}


@app.get(f"{PRODUCTS}/{{key}}", response_model=ProductOut)
async def get_product(
    session: SessionDep, response: Response, key: int, if_none_match: Annotated[str | None, Header()] = None
) -> Any:
    """One product; 304 where the client has this version."""
    product = await session.scalar(select(Product).where(Product.id == key, live(Product)))
    if product is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND)
    tag = {"ETag": etag(product)}
    if if_none_match == tag["ETag"]:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=tag)
    response.headers.update(tag)
    return product


@app.post(PRODUCTS, response_model=ProductOut, status_code=status.HTTP_201_CREATED)
async def create_product(session: SessionDep, response: Response, data: ProductIn) -> Any:
    """A new product."""
    product = Product(metadata_=data.metadata, **data.model_dump(exclude={"metadata"}))
    session.add(product)
    await commit(session)
    response.headers["ETag"] = etag(product)
    response.headers["Location"] = f"{PRODUCTS}/{product.id}"
    return product


async def commit(session: AsyncSession) -> None:
    """Write it all, or tell what the database refuses."""
    try:
        await session.commit()
    except IntegrityError as error:
        raise HTTPException(status.HTTP_409_CONFLICT, "This value is taken, or refers to nothing.") from error


@app.get(f"{ORDERS}/{{key}}", response_model=DetailedOrderOut)
async def get_order(session: SessionDep, response: Response, key: uuid.UUID) -> Any:
    """One order, with its user, items and their products."""
    statement = (
        select(Order)
        .where(Order.id == key, live(Order))
        .options(
            joinedload(Order.user.and_(live(User))),
            selectinload(Order.items).joinedload(OrderItem.product.and_(live(Product))),
        )
    )
    order = await session.scalar(statement)
    if order is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND)
    response.headers["ETag"] = etag(order)
    return order


@app.post(ORDERS, response_model=OrderOut, status_code=status.HTTP_201_CREATED)
async def create_order(session: SessionDep, response: Response, data: OrderIn) -> Any:
    """A new order; its items are taken from the stock, whose rows are locked in ascending order."""
    wanted = {item.product_id for item in data.items}
    locked = select(Product).where(Product.id.in_(wanted), live(Product)).order_by(Product.id).with_for_update()
    products = {product.id: product for product in await session.scalars(locked)}
    if missing := wanted - products.keys():
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, f"There is no product {min(missing)}.")
    items = []
    for line in data.items:
        product = products[line.product_id]
        if product.stock_quantity < line.quantity:
            raise HTTPException(status.HTTP_409_CONFLICT, f"Only {product.stock_quantity} of {product.id} left.")
        product.stock_quantity -= line.quantity
        items.append(OrderItem(product_id=product.id, quantity=line.quantity, unit_price=product.price))
    total = sum(item.unit_price * item.quantity for item in items)
    order = Order(user_id=data.user_id, status="pending", total_amount=total, metadata_=data.metadata, items=items)
    session.add(order)
    await commit(session)
    response.headers["ETag"] = etag(order)
    response.headers["Location"] = f"{ORDERS}/{order.id}"
    return order
