"""PostgreSQL's JSON is what the schemas' `dump` writes, whatever the rows hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import inspect, select
from sqlalchemy.orm import selectinload

from api.app import API_PREFIX
from api.core.database.mixins import INCLUDE_DELETED
from api.core.query.allowlist import Limits
from api.core.query.plan import QueryPlan
from api.core.query.projection import attribute_of, dumped_fields
from api.core.query.relations import soft_deletable
from api.extensions import db
from tests.core.query.reference import MISSING
from tests.core.query.strategies import examples, pages, shown, store, worlds
from tests.core.query.things import Base, things
from tests.factories import OrderFactory, OrderItemFactory, ProductFactory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from api.core.query.collection import Collection


def test_a_page_equals_the_dump_of_its_rows(resources, scratch):
    @examples(60)
    @given(data=st.data())
    def check(data):
        world = data.draw(worlds(db.metadata))
        with scratch() as session:
            store(session, db.metadata, world)
            for resource in resources.values():
                plan = data.draw(pages(resource.collection.allow_list(Limits())), label=resource.name)
                rows = resource.reader.page(session.connection(), plan)
                assert json.loads(rows.items) == dumped_page(session, resource.collection, plan)

    check()


def test_a_page_of_columns_and_relations_of_every_kind_equals_its_dump(thing_reader, thing_scratch):
    collection = things()

    @examples(60)
    @given(data=st.data())
    def check(data):
        with thing_scratch() as session:
            store(session, Base.metadata, data.draw(worlds(Base.metadata)))
            plan = data.draw(pages(collection.allow_list(Limits())))
            rows = thing_reader.page(session.connection(), plan)
            assert json.loads(rows.items) == dumped_page(session, collection, plan)

    check()


def test_a_single_row_equals_its_dump(resources, scratch):
    @examples(30)
    @given(data=st.data())
    def check(data):
        world = data.draw(worlds(db.metadata, most=2))
        with scratch() as session:
            store(session, db.metadata, world)
            for resource in resources.values():
                plan = QueryPlan(**data.draw(shown(resource.collection.allow_list(Limits())), label=resource.name))
                for row in world[resource.model.__tablename__]:
                    read = resource.reader.row(session.connection(), plan, _bound(row["id"]))
                    query = loading(resource.collection, plan).where(resource.model.id == row["id"])
                    bodies = [json.loads(read.body)] if read else []
                    assert bodies == dumped(session, resource.collection, plan, query)

    check()


def dumped_page(session: Session, collection: Collection, plan: QueryPlan) -> Any:
    """The page as the ORM loads it and the schema dumps it."""
    orders = [getattr(collection.model, collection.attributes_of(key.path)[0]) for key in plan.sort]
    query = loading(collection, plan).order_by(
        *(order.desc() if key.descending else order for order, key in zip(orders, plan.sort, strict=True))
    )
    assert plan.page is not None
    return dumped(session, collection, plan, query.limit(plan.page.size).offset(plan.page.offset))


def dumped(session: Session, collection: Collection, plan: QueryPlan, query: Select[Any]) -> Any:
    """What the schema writes for the rows of `query`."""
    options = {INCLUDE_DELETED: plan.deleted != "exclude"}
    found = session.scalars(query, execution_options=options | {"populate_existing": True}).all()
    dump = json.loads(json.dumps(collection.schema_for(plan).dump(found, many=True)))
    for excerpt in plan.excerpts:
        *embeds, name = excerpt.name.split(".")
        for row in _reached(dump, embeds):
            row[name] = picked(row[name], excerpt.paths)
    return dump


def _reached(rows: list[Any], embeds: list[str]) -> Iterator[dict[str, Any]]:
    """The embedded rows that `embeds` lead to."""
    for row in rows:
        if not embeds:
            yield row
        elif (inner := row[embeds[0]]) is not None:
            yield from _reached(inner if isinstance(inner, list) else [inner], embeds[1:])


def picked(document: Any, wanted: Sequence[tuple[str, ...]]) -> Any:
    """What of `document` is at the paths `wanted`, nested as in the document."""
    if not isinstance(document, dict):
        return document
    found: dict[str, Any] = {}
    for path in wanted:
        value: Any = document
        for key in path:
            value = value.get(key, MISSING) if isinstance(value, dict) else MISSING
        if value is not MISSING:
            inner = found
            for key in path[:-1]:
                inner = inner.setdefault(key, {})
            inner[path[-1]] = value
    return found


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ("metadata.a", {"a": 1}),
        ("metadata.a,metadata.none", {"a": 1}),
        ("metadata.none", {}),
        ("metadata.b.c,metadata.a", {"a": 1, "b": {"c": None}}),
        ("metadata.b.c,metadata.b.d.e", {"b": {"c": None, "d": {"e": "x"}}}),
        ("metadata.b.d,metadata.b.d.e", {"b": {"d": {"e": "x", "f": [1]}}}),
        ("metadata.b.d.f.0", {}),
        ("metadata.a.b", {}),
        ("metadata.a,metadata", {"a": 1, "b": {"c": None, "d": {"e": "x", "f": [1]}}}),
    ],
)
def test_parts_of_a_document_are_shown_nested_as_they_are_in_it(client, fields, shown):
    product = ProductFactory(metadata_={"a": 1, "b": {"c": None, "d": {"e": "x", "f": [1]}}})
    assert client.get(f"{API_PREFIX}/products/{product.id}?fields={fields}").json == {"metadata": shown}
    OrderItemFactory(product=product, order=OrderFactory())
    embedded = ",".join(f"items.product.{field}" for field in fields.split(","))
    answer = client.get(f"{API_PREFIX}/orders?include=items.product&fields=status,items.quantity,{embedded}").json
    assert answer["items"][0]["items"][0]["product"] == {"metadata": shown}


def loading(collection: Collection, plan: QueryPlan) -> Select[Any]:
    """The rows that the plan is about, with what it embeds loaded along with them."""
    query = select(collection.model)
    if plan.deleted == "only":
        query = query.where(collection.model.deleted_at.is_not(None))
    for include in plan.include:
        query = query.options(_path(collection, include.split("."), hide_deleted=plan.deleted != "exclude"))
    return query


def _path(collection: Collection, names: list[str], *, hide_deleted: bool) -> Any:
    schema, model, option = collection.schema(), collection.model, None
    for name in names:
        field = dumped_fields(schema)[name]
        relation = getattr(model, attribute_of(field))
        schema, model = field.schema, inspect(model).relationships[attribute_of(field)].entity.class_
        if hide_deleted and soft_deletable(model):
            # By itself the ORM shows deleted related rows, too, to whom it shows deleted rows.
            relation = relation.and_(model.deleted_at.is_(None))
        option = option.selectinload(relation) if option else selectinload(relation)
    return option


def _bound(key: Any) -> Any:
    """A key as the driver takes it."""
    return key if isinstance(key, int) else str(key)
