"""The classic stack: Flask, Flask-SQLAlchemy's session, marshmallow's schemas, and `jsonify`."""

from __future__ import annotations

import os
import uuid
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Flask, Response, abort, jsonify, make_response, request
from flask_sqlalchemy import SQLAlchemy
from marshmallow import Schema, ValidationError
from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import joinedload, selectinload
from werkzeug.exceptions import HTTPException

from benchmarks.peers.classic_flask.schemas import (
    DetailedOrderSchema,
    DetailedProductSchema,
    KeysetSchema,
    NewOrderSchema,
    NewProductSchema,
    NumberedSchema,
    OrderSchema,
    ProductSchema,
    SearchSchema,
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

db = SQLAlchemy(session_options={"expire_on_commit": False})
app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": int(os.environ["THREADS"]), "max_overflow": 0}
db.init_app(app)

# Made once: a schema copies its fields when it is made.
product_schema = ProductSchema()
detailed_product_schema = DetailedProductSchema()
order_schema = OrderSchema()
detailed_order_schema = DetailedOrderSchema()
keyset_schema = KeysetSchema()
numbered_schema = NumberedSchema()
search_schema = SearchSchema()
new_product_schema = NewProductSchema()
new_order_schema = NewOrderSchema()


@app.errorhandler(ValidationError)
def refuse(error: ValidationError) -> tuple[Response, int]:
    """What is wrong, by field."""
    return jsonify(errors=error.messages), HTTPStatus.UNPROCESSABLE_ENTITY


@app.errorhandler(HTTPException)
def fail(error: HTTPException) -> tuple[Response, int]:
    """The error as JSON."""
    return jsonify(detail=error.description), error.code or HTTPStatus.INTERNAL_SERVER_ERROR


def filtered(wanted: dict[str, Any]) -> Select[tuple[Product]]:
    """The products that are asked for."""
    return (
        select(Product)
        .where(Product.category_id == wanted["category_id"], Product.price >= wanted["price__gte"], live(Product))
        .order_by(Product.price, Product.id)
    )


def keyset_page(path: str, schema: Schema, *options: Any) -> Response:
    """One row more than is shown tells whether there is a next page."""
    wanted = keyset_schema.load(request.args)
    limit = wanted["limit"]
    statement = filtered(wanted).options(*options).limit(limit + 1)
    if "cursor" in wanted:
        try:
            statement = statement.where(after(wanted["cursor"]))
        except (ValueError, ArithmeticError) as error:
            raise ValidationError("Must be a cursor of this list.", "cursor") from error
    rows = db.session.scalars(statement).all()
    items, following = rows[:limit], None
    if len(rows) > limit:
        following = f"{path}?{urlencode(wanted | {'cursor': encode_cursor(items[-1])})}"
    return jsonify(items=schema.dump(items, many=True), next=following)


@app.get(PRODUCTS)
def list_products() -> Response:
    """A page by cursor."""
    return keyset_page(PRODUCTS, product_schema)


@app.get(f"{PRODUCTS}/detailed")
def list_detailed_products() -> Response:
    """A page by cursor, with category and tags."""
    return keyset_page(
        f"{PRODUCTS}/detailed",
        detailed_product_schema,
        joinedload(Product.category.and_(live(Category))),
        selectinload(Product.tags.and_(live(Tag))),
    )


@app.get(f"{PRODUCTS}/numbered")
def list_numbered_products() -> Response:
    """A page by number, with the total."""
    wanted = numbered_schema.load(request.args)
    page, size = wanted["page"], wanted["per_page"]
    statement = filtered(wanted)
    total = db.session.scalar(statement.with_only_columns(func.count()).order_by(None)) or 0
    items = db.session.scalars(statement.limit(size).offset((page - 1) * size)).all()
    following = None
    if page * size < total:
        following = f"{PRODUCTS}/numbered?{urlencode(wanted | {'page': page + 1})}"
    return jsonify(items=product_schema.dump(items, many=True), next=following, total=total)


@app.get(f"{PRODUCTS}/search")
def search_products() -> Response:
    """A page of what has the words, best first."""
    wanted = search_schema.load(request.args)
    statement = (
        select(Product)
        .where(matches(wanted["q"]), live(Product))
        .order_by(rank(wanted["q"]).desc(), Product.id.desc())
        .limit(PAGE_SIZE + 1)
        .offset((wanted["page"] - 1) * PAGE_SIZE)
    )
    rows = db.session.scalars(statement).all()
    following = None
    if len(rows) > PAGE_SIZE:
        following = f"{PRODUCTS}/search?{urlencode(wanted | {'page': wanted['page'] + 1})}"
    return jsonify(items=product_schema.dump(rows[:PAGE_SIZE], many=True), next=following)


@app.get(f"{PRODUCTS}/<int:key>")
def get_product(key: int) -> Response:
    """One product; 304 where the client has this version."""
    product = db.session.scalar(select(Product).where(Product.id == key, live(Product)))
    if product is None:
        abort(HTTPStatus.NOT_FOUND)
    tag = etag(product)
    if request.headers.get("If-None-Match") == tag:
        response = make_response("", HTTPStatus.NOT_MODIFIED)
    else:
        response = jsonify(product_schema.dump(product))
    response.headers["ETag"] = tag
    return response


@app.post(PRODUCTS)
def create_product() -> Response:
    """A new product."""
    product = Product(**new_product_schema.load(request.get_json()))
    db.session.add(product)
    commit()
    return created(product_schema, product, PRODUCTS)


def commit() -> None:
    """Write it all, or tell what the database refuses."""
    try:
        db.session.commit()
    except IntegrityError:
        abort(HTTPStatus.CONFLICT, "This value is taken, or refers to nothing.")


def created(schema: Schema, row: Product | Order, path: str) -> Response:
    """The answer to a POST."""
    response = make_response(jsonify(schema.dump(row)), HTTPStatus.CREATED)
    response.headers["ETag"] = etag(row)
    response.headers["Location"] = f"{path}/{row.id}"
    return response


@app.get(f"{ORDERS}/<uuid:key>")
def get_order(key: uuid.UUID) -> Response:
    """One order, with its user, items and their products."""
    statement = (
        select(Order)
        .where(Order.id == key, live(Order))
        .options(
            joinedload(Order.user.and_(live(User))),
            selectinload(Order.items).joinedload(OrderItem.product.and_(live(Product))),
        )
    )
    order = db.session.scalar(statement)
    if order is None:
        abort(HTTPStatus.NOT_FOUND)
    response = jsonify(detailed_order_schema.dump(order))
    response.headers["ETag"] = etag(order)
    return response


@app.post(ORDERS)
def create_order() -> Response:
    """A new order; its items are taken from the stock, whose rows are locked in ascending order."""
    data = new_order_schema.load(request.get_json())
    wanted = {item["product_id"] for item in data["items"]}
    locked = select(Product).where(Product.id.in_(wanted), live(Product)).order_by(Product.id).with_for_update()
    products = {product.id: product for product in db.session.scalars(locked)}
    if missing := wanted - products.keys():
        raise ValidationError(f"There is no product {min(missing)}.", "items")
    items = []
    for line in data["items"]:
        product = products[line["product_id"]]
        if product.stock_quantity < line["quantity"]:
            abort(HTTPStatus.CONFLICT, f"Only {product.stock_quantity} of product {product.id} left.")
        product.stock_quantity -= line["quantity"]
        items.append(OrderItem(**line, unit_price=product.price))
    total = sum(item.unit_price * item.quantity for item in items)
    order = Order(
        user_id=data["user_id"], status="pending", total_amount=total, metadata_=data["metadata"], items=items
    )
    db.session.add(order)
    commit()
    return created(order_schema, order, ORDERS)
