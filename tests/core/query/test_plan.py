"""Plans: what they bind, and what of them is shape."""

from __future__ import annotations

import json

import pytest

from api.core.query.documents import Excerpt
from api.core.query.plan import Filter, Group, Page, Position, QueryPlan, Sort


def condition(operator, *values, json_path=()):
    return Filter(("field",), operator, values, json_path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (condition("eq", 1), condition("eq", 2)),
        (condition("in", 1), condition("in", 1, 2, 3)),
        (condition("between", 1, 2), condition("between", 3, 4)),
        (condition("gt", "1", json_path=("a",)), condition("gt", "2", json_path=("b", "c"))),
        (Group("or", (condition("eq", 1),)), Group("or", (condition("eq", 2),))),
        (Position(("a", None)), Position(("b", None))),
        (Page(1), Page(2)),
        (Sort(("a",), json_path=("b",)), Sort(("a",), json_path=("c", "d"))),
        (Excerpt("a", (("b", "c"), ("d",))), Excerpt("a", (("e", "f"), ("g",)))),
        (condition("in", "1", json_path=("a",)), condition("in", "2", "3", json_path=("b",))),
        (Page(1, offset=0), Page(2, offset=20)),
    ],
)
def test_values_are_no_part_of_the_shape(one, other):
    assert one.shape == other.shape
    assert hash(one.shape) == hash(other.shape)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (condition("eq", 1), condition("ne", 1)),
        (condition("eq", 1), Filter(("other",), "eq", (1,))),
        (condition("is_null", True), condition("is_null", False)),
        (condition("eq", '"a"', json_path=("a",)), condition("eq", "5", '"5"', json_path=("a",))),
        (condition("eq", '"a"', json_path=("a",)), condition("eq", '"a"', json_path=("0",))),
        (condition("contains", "{}"), condition("contains", "{}", json_path=("a",))),
        (Group("or", (condition("eq", 1),)), Group("and", (condition("eq", 1),))),
        (Group("or", (condition("eq", 1),)), Group("or", (condition("eq", 1), condition("eq", 1)))),
        (Position(("a", None)), Position((None, "a"))),
        (Position(("a",)), Position(("a",), backward=True)),
        (Page(1), Page(1, offset=0)),
        (Sort(("a",), json_path=("b",)), Sort(("a",))),
        (Excerpt("a", (("b", "c"), ("d",))), Excerpt("a", (("b",), ("c",), ("d",)))),
        (Excerpt("a", (("b",),)), Excerpt("c", (("b",),))),
        (Page(1), Page(1, Position(("a",)))),
    ],
)
def test_what_changes_the_statement_is_part_of_the_shape(one, other):
    assert one.shape != other.shape


def test_values_are_bound_in_the_order_of_the_conditions():
    where = (
        condition("between", 1, 2),
        Group("not", (condition("in", 3, 4), condition("is_null", True))),
        condition("eq", 5),
    )
    plan = QueryPlan(where=where, sort=(Sort(("id",)),), page=Page(7, Position(("x", None, "y"))))
    assert plan.binds == {"p0": 1, "p1": 2, "p2": [3, 4], "p3": 5, "size": 7, "k0": "x", "k2": "y"}


def test_an_offset_page_binds_what_it_skips():
    assert QueryPlan(page=Page(10, offset=30)).binds == {"size": 10, "skip": 30}


def test_equality_inside_a_document_is_bound_as_a_document():
    found = condition("eq", "5", '"5"', json_path=("a", 'b"\n')).binds()
    assert [json.loads(text) for text in found] == [{"a": {'b"\n': 5}}, {"a": {'b"\n': "5"}}]


def test_a_list_of_values_inside_a_document_is_bound_as_a_list_of_documents():
    [found] = condition("in", "5", '"5"', json_path=("a", "b")).binds()
    assert [json.loads(text) for text in found] == [{"a": {"b": 5}}, {"a": {"b": "5"}}]


def test_paths_into_documents_are_bound():
    sort = (Sort(("m",), json_path=("a", "b")), Sort(("id",)), Sort(("m",), json_path=("c",)))
    excerpts = (Excerpt("m", (("a", "b"), ("a", "c"), ("d",))), Excerpt("n", (("e",),)))
    bound = QueryPlan(sort=sort, excerpts=excerpts).binds
    assert bound == {"s0": ["a", "b"], "s2": ["c"], "f0": "a", "f1": "b", "f2": "c", "f3": "d", "f4": "e"}


@pytest.mark.parametrize("key", ["0", "-1", "+1", " 7"])
def test_equality_where_a_key_may_be_an_index_is_bound_as_path_and_value(key):
    assert list(condition("eq", "5", json_path=("a", key)).binds()) == [["a", key], "5"]


def test_another_comparison_inside_a_document_is_bound_as_path_and_value():
    assert list(condition("between", "1", "2", json_path=("a", "b")).binds()) == [["a", "b"], "1", "2"]
    assert list(condition("in", "1", "2", json_path=("0",)).binds()) == [["0"], ["1", "2"]]
    assert list(condition("is_null", True, json_path=("a",)).binds()) == [["a"]]


@pytest.mark.parametrize(
    ("denial", "denied"),
    [
        (condition("ne", 1), condition("eq", 1)),
        (condition("not_in", 1, 2), condition("in", 1, 2)),
        (condition("is_null", True), condition("is_null", False)),
        (condition("is_null", False), None),
        (condition("eq", 1), None),
    ],
)
def test_a_denial_knows_what_it_denies(denial, denied):
    assert denial.denied == denied


def test_a_plan_can_be_taken_to_a_position():
    plan = QueryPlan(sort=(Sort(("id",)),), page=Page(5))
    moved = plan.at(Position(("1",)))
    assert moved.page == Page(5, Position(("1",)))
    assert moved.shape != plan.shape
    assert moved.fingerprint() == plan.fingerprint()


def test_a_cursor_is_bound_to_the_path_that_is_sorted_by():
    fingerprints = {QueryPlan(sort=(Sort(("m",), json_path=path),)).fingerprint() for path in ((), ("a",), ("b",))}
    assert len(fingerprints) == 3


def test_a_plan_of_a_single_row_has_no_position():
    assert QueryPlan().at(Position(("1",))) == QueryPlan()
