"""The statement cache: one build for a shape, never too many, and no value in a text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.core.query import statement as module
from api.core.query.collection import Collection
from api.core.query.documents import Excerpt
from api.core.query.plan import Filter, Group, Page, Position, QueryPlan, Sort
from api.core.query.statement import StatementCache
from api.resources.products.models import Product
from api.resources.products.schemas import ProductSchema
from tests.core.query.strategies import characters, examples

SORT = (Sort(("name",)), Sort(("id",)))


class Counted(Collection):
    """The products, counting how often a statement is built for them."""

    builds = 0

    def schema_for(self, plan):
        self.builds += 1
        return super().schema_for(plan)


@pytest.fixture
def collection(app):
    """Products, to be asked by name and category."""
    del app
    return Counted(
        "products", Product, ProductSchema, filters=("category.name",), sorts=("name",), includes=("category",)
    )


def named(*names, operator="eq", **options):
    return QueryPlan(where=(Filter(("name",), operator, names),), sort=SORT, page=Page(20), **options)


def test_a_shape_is_built_once(collection):
    cache = StatementCache(collection)
    assert cache.statement(named("a")) is cache.statement(named("b"))
    assert collection.builds == 1


@pytest.mark.parametrize(
    "plan",
    [
        named("a", operator="ne"),
        named("a", count="exact"),
        named("a", fields=("id",)),
        named("a", include=("category",)),
        named("a", deleted="only"),
        named("a").at(Position(("a", "1"))),
        named("a").at(Position((None, "1"))),
        named("a").at(Position(("a", "1"), backward=True)),
        QueryPlan(where=named("a").where, sort=SORT, page=Page(20, offset=0)),
        QueryPlan(where=named("a").where, sort=(Sort(("name",), descending=True), SORT[1]), page=Page(20)),
        QueryPlan(where=(Group("not", named("a").where),), sort=SORT, page=Page(20)),
        QueryPlan(where=(Filter(("category", "name"), "eq", ("a",)),), sort=SORT, page=Page(20)),
    ],
)
def test_another_shape_is_another_statement(collection, plan):
    cache = StatementCache(collection)
    assert cache.statement(named("a")).text != cache.statement(plan).text
    assert collection.builds == 2


def test_the_length_of_a_list_is_not_part_of_the_shape(collection):
    cache = StatementCache(collection)
    assert cache.statement(named("a", operator="in")) is cache.statement(named("a", "b", "c", operator="in"))


def test_the_size_and_place_of_a_page_are_not_part_of_the_shape(collection):
    cache = StatementCache(collection)
    pages = [Page(1, offset=5), Page(99, offset=0)]
    assert len({id(cache.statement(QueryPlan(sort=SORT, page=page))) for page in pages}) == 1


def test_the_cache_is_bounded_and_drops_what_was_not_used_for_longest(collection, monkeypatch):
    monkeypatch.setattr(module, "CACHED_SHAPES", 2)
    cache = StatementCache(collection)
    for operator in ("eq", "ne", "eq", "like"):
        cache.statement(named("a", operator=operator))
    assert collection.builds == 3
    cache.statement(named("a", operator="eq"))
    assert collection.builds == 3
    cache.statement(named("a", operator="ne"))
    assert collection.builds == 4


def test_a_plan_keeps_its_statement_of_each_cache(collection):
    one, other, plan = StatementCache(collection), StatementCache(collection), named("a")
    assert one.statement(plan) is one.statement(plan)
    assert one.statement(plan) is not other.statement(plan)
    assert collection.builds == 2


def test_threads_that_ask_at_once_build_a_shape_once(collection):
    cache, barrier = StatementCache(collection), Barrier(8)

    def ask(number):
        barrier.wait()
        return [cache.statement(named(str(number), operator=operator)).text for operator in ("eq", "ne", "like")]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert collection.builds == 3
    assert all(answer == answers[0] for answer in answers)


@examples(40)
@given(text=st.text(characters, min_size=1, max_size=30), number=st.integers(10**6, 10**9))
def test_no_value_gets_into_the_text_of_a_statement(resources, text, number):
    collection = resources["products"].collection
    value = f"<{text}>"
    conditions = (
        Filter(("category", "name"), "not_in", (value, "other")),
        Filter(("name",), "ilike", (value,)),
        Filter(("stock_quantity",), "between", (number, number + 1)),
        Filter(("metadata",), "eq", (f'"{number}"', str(number)), (value, "0")),
        Filter(("metadata",), "contains", (f'{{"{number}":1}}',)),
        Filter(("metadata",), "gt", (str(number),), (value,)),
    )
    plan = QueryPlan(
        where=(Group("not", conditions[:2]), Group("or", conditions[2:])),
        sort=(Sort(("metadata",), json_path=(value,)), *SORT),
        page=Page(number, Position((value, value, str(number)))),
        count="estimated",
        fields=("metadata",),
        excerpts=(Excerpt("metadata", ((str(number), value),)),),
    )
    statement = StatementCache(collection).statement(plan)
    for sent in (statement.text, statement.counted):
        assert value not in sent
        assert str(number) not in sent
