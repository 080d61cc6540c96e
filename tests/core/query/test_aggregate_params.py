"""Query strings to plans of aggregations: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest

from api.core.errors import MalformedRequestError
from api.core.query.aggregate_params import parse_aggregate, possible_fields
from api.core.query.aggregate_plan import Key, Operand, Order, Result
from api.core.query.allowlist import AllowList, FieldRule, Kind, Limits
from api.core.query.plan import Filter, Group

NOTHING: frozenset[str] = frozenset()
RULES = {
    rule.name: rule
    for rule in (
        FieldRule("id", Kind.INTEGER, nullable=False, minimum=-8, maximum=7),
        FieldRule("name", Kind.TEXT, nullable=False),
        FieldRule("price", Kind.DECIMAL, nullable=False),
        FieldRule("metadata", Kind.JSON, nullable=False),
        FieldRule("created_at", Kind.TIMESTAMP, nullable=False),
        FieldRule("day", Kind.DATE, nullable=True),
        FieldRule("category.name", Kind.TEXT, nullable=True),
        FieldRule("tags.name", Kind.TEXT, nullable=True, many="tags"),
        FieldRule("items.quantity", Kind.INTEGER, nullable=True, many="items"),
    )
}
LIMITS = Limits(groups=10, groups_max=50, offset_max=100, group_keys_max=2, results_max=3, list_max=4)
ALLOWED = AllowList("products", RULES, NOTHING, NOTHING, NOTHING, (), deletable=True, limits=LIMITS, comparable=RULES)


def asked(*pairs):
    return parse_aggregate(pairs, ALLOWED)


def refused(*pairs):
    """What is said of an aggregation that is wrong: parameters and details."""
    with pytest.raises(MalformedRequestError) as raised:
        asked(*pairs)
    return [(violation.parameter, violation.detail) for violation in raised.value.violations]


# -- what a query string means ----------------------------------------------------------------------------------------


def test_an_empty_query_string_counts_all_rows():
    plan = asked()
    assert (plan.keys, plan.results) == ((), (Result("count", "count"),))
    assert (plan.size, plan.offset, plan.where, plan.having, plan.order) == (10, 0, (), (), ())
    assert (plan.resource, plan.deleted) == ("products", "exclude")


@pytest.mark.parametrize(
    ("name", "operand"),
    [
        ("name", Operand(("name",))),
        ("category.name", Operand(("category", "name"))),
        ("tags.name", Operand(("tags", "name"), many="tags")),
        ("metadata.a.b", Operand(("metadata",), ("a", "b"))),
        ("created_at", Operand(("created_at",))),
        ("created_at.hour", Operand(("created_at",), bucket="hour")),
        ("day.quarter", Operand(("day",), bucket="quarter")),
    ],
)
def test_rows_are_grouped_by(name, operand):
    assert asked(("group_by", name)).keys == (Key(name, operand),)


@pytest.mark.parametrize(
    ("function", "name", "result"),
    [
        ("count", "*", Result("count", "count")),
        ("count", "name", Result("count_name", "count", Operand(("name",)))),
        ("sum", "items.quantity", Result("sum_items.quantity", "sum", Operand(("items", "quantity"), many="items"))),
        ("avg", "metadata.a", Result("avg_metadata.a", "avg", Operand(("metadata",), ("a",)))),
        ("min", "created_at", Result("min_created_at", "min", Operand(("created_at",)))),
        ("max", "name", Result("max_name", "max", Operand(("name",)))),
        (
            "count_distinct",
            "day.year",
            Result("count_distinct_day.year", "count_distinct", Operand(("day",), (), "year")),
        ),
    ],
)
def test_a_result_is_named_after_its_function_and_field(function, name, result):
    assert asked((function, name)).results == (result,)


@pytest.mark.parametrize(
    ("text", "having"),
    [
        ("sum_price__gt=10", (Filter(("a0",), "gt", (10,)),)),
        ("sum__gt=10", (Filter(("a0",), "gt", (10,)),)),
        ("(max_id=1,max_id=2)", (Filter(("a1",), "eq", (1,)), Filter(("a1",), "eq", (2,)))),
        ("max__in=(1,2)", (Filter(("a1",), "in", (1, 2)),)),
        (
            "or=(sum=1,not=(max=2))",
            (Group("or", (Filter(("a0",), "eq", (1,)), Group("not", (Filter(("a1",), "eq", (2,)),)))),),
        ),
        ("sum__is_null=true", (Filter(("a0",), "is_null", (True,)),)),
    ],
)
def test_having_compares_results_which_a_function_alone_names_too(text, having):
    assert asked(("sum", "price"), ("max", "id"), ("having", text)).having == having


def test_an_order_is_completed_by_the_keys():
    plan = asked(("group_by", "name,category.name"), ("sort", "-count,category.name"))
    assert plan.order == (Order("a0", descending=True), Order("g1"), Order("g0"))


def test_a_list_s_filters_choose_the_rows():
    plan = asked(("price__gt", "1"), ("tags.name", "sale"), ("deleted", "only"), ("limit", "50"), ("offset", "100"))
    assert len(plan.where) == 2
    assert (plan.deleted, plan.size, plan.offset) == ("only", 50, 100)


def test_names_and_paths_are_values_and_no_part_of_the_shape():
    one = asked(("group_by", "metadata.a"), ("sum", "metadata.b"), ("having", "sum__gt=1"))
    other = asked(
        ("group_by", "metadata.c.d"), ("sum", "metadata.e"), ("having", "sum_metadata.e__gt=2"), ("limit", "1")
    )
    assert one.shape == other.shape
    assert one.binds() == {
        "size": 10,
        "skip": 0,
        "h0": 1,
        "n0": '"metadata.a":',
        "n1": '"sum_metadata.b":',
        "j0": ["a"],
        "j1": ["b"],
    }


@pytest.mark.parametrize(
    "pairs",
    [
        [("group_by", "name")],
        [("group_by", "created_at")],
        [("group_by", "created_at.month")],
        [("sum", "id")],
        [("avg", "id")],
        [("group_by", "name"), ("sort", "-name")],
        [("name", "a")],
        [("having", "count=1")],
        [("deleted", "include")],
    ],
)
def test_what_changes_the_statement_is_part_of_the_shape(pairs):
    assert asked(*pairs).shape != asked().shape


def test_possible_fields_are_told_for_each_function():
    assert possible_fields(ALLOWED, "sum") == ["id", "items.quantity", "metadata.<key>", "price"]
    assert "name" in possible_fields(ALLOWED, "max")
    assert len(possible_fields(ALLOWED)) == len(RULES)


# -- what is said of a mistake ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "detail"),
    [
        ("group_by", "prise", "There is no field 'prise'; did you mean 'price'?"),
        ("group_by", "", "Must be names with commas between them."),
        ("group_by", "name,name", "Names 'name' twice."),
        ("group_by", "name,id,price", "Must not list more than 2 names."),
        ("group_by", "metadata", "'metadata' needs a key, as in metadata.key."),
        ("group_by", "metadta.a", "There is no field 'metadta.a'; did you mean 'metadata.a'?"),
        ("group_by", "metadata." + ".".join("a" * 33), "Must not go deeper than 32 keys."),
        (
            "group_by",
            "created_at.minute",
            "'created_at' has no unit 'minute'; possible: hour, day, week, month, quarter, year.",
        ),
        ("group_by", "day.hour", "'day' has no unit 'hour'; possible: day, week, month, quarter, year."),
        ("group_by", "creatd_at.month", "There is no field 'creatd_at.month'; did you mean 'created_at.month'?"),
        ("group_by", "tags.name,items.quantity", "Cannot be used together with 'tags.name': a row has many of both."),
        ("sum", "name", "Cannot be used with 'name'; possible: id, items.quantity, metadata.<key>, price."),
        ("sum", "*", "There is no field '*'; possible: id, items.quantity, metadata.<key>, price."),
        ("min", "created_at.month", "'created_at.month' is for group_by and count_distinct; min takes 'created_at'."),
        ("sum", "id,id", "'sum_id' would be there twice."),
        ("sum", "id,price,metadata.a,metadata.b", "There are more than 3 results."),
        (
            "count",
            "exact",
            (
                "There is no field 'exact'; possible: *, category.name, created_at, day, id, items.quantity, "
                "metadata.<key>, name, price, tags.name."
            ),
        ),
        ("having", "count", "Expected name=value at position 6."),
        ("having", "", "Expected name=value at position 1."),
        ("having", "count=1)", "Expected ',' at position 8."),
        ("having", "cnt__gt=1", "cnt__gt: There is no filter 'cnt__gt'; did you mean 'count__gt'?"),
        ("having", "name=a", "name: There is no filter 'name'; possible: count."),
        ("having", "count=x", "count: Must be an integer of at most 30 digits."),
        ("having", "count=-1", "count: Must be between 0 and 9223372036854775807."),
        (
            "having",
            "count__icontains=1",
            (
                "count__icontains: 'count' has no operator 'icontains'; "
                "possible: eq, ne, lt, lte, gt, gte, in, not_in, between."
            ),
        ),
        ("sort", "name", "There is no key or result 'name'; possible: count."),
        ("sort", "count,-count", "Names 'count' twice."),
        ("limit", "51", "Must be between 1 and 50."),
        ("offset", "101", "Must be between 0 and 100."),
        ("prise", "1", "There is no parameter 'prise'; did you mean 'price'?"),
        ("grup_by", "name", "There is no parameter 'grup_by'; did you mean 'group_by'?"),
        ("price", "x", "Must be a decimal number, such as 12.50."),
        ("deleted", "yes", "Must be one of: exclude, include, only."),
    ],
)
def test_a_mistake_is_named_with_what_would_be_right(name, text, detail):
    assert refused((name, text)) == [(name, detail)]


def test_a_function_with_several_results_names_none_of_them():
    [(parameter, detail)] = refused(("sum", "id,price"), ("having", "sum__gt=1"))
    assert (parameter, detail) == ("having", "sum__gt: There is no filter 'sum__gt'; did you mean 'sum_id__gt'?")


def test_a_key_and_a_result_cannot_have_the_same_name():
    rules = RULES | {"count": FieldRule("count", Kind.INTEGER, nullable=False)}
    allowed = AllowList("x", rules, NOTHING, NOTHING, NOTHING, (), limits=LIMITS, comparable=rules)
    with pytest.raises(MalformedRequestError, match="'count' would be there twice"):
        parse_aggregate([("group_by", "count")], allowed)
