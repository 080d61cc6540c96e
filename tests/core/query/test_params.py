"""Query strings to plans: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.core.errors import MalformedRequestError
from api.core.query.allowlist import AllowList, FieldRule, Kind, Limits
from api.core.query.cursor import CursorCodec
from api.core.query.documents import Excerpt
from api.core.query.params import parse_list, parse_view
from api.core.query.plan import Filter, Group, Page, Position, Sort

LIMITS = Limits(
    page_size=20, page_size_max=50, offset_max=100, conditions_max=3, depth_max=2, list_max=4, include_depth_max=2
)
CODEC = CursorCodec("secret")
ALLOWED = AllowList(
    resource="products",
    filters={
        rule.name: rule
        for rule in (
            FieldRule("id", Kind.INTEGER, nullable=False, minimum=-8, maximum=7),
            FieldRule("name", Kind.TEXT, nullable=False),
            FieldRule("note", Kind.TEXT, nullable=True),
            FieldRule("price", Kind.DECIMAL, nullable=False),
            FieldRule("metadata", Kind.JSON, nullable=False),
            FieldRule("category.name", Kind.TEXT, nullable=True),
        )
    },
    sorts=frozenset({"id", "name", "price", "category.name"}),
    fields=frozenset({"id", "name", "metadata", "category.name", "category.metadata", "category.parent.name"}),
    includes=frozenset({"category", "category.parent", "category.parent.parent", "tags"}),
    default_sort=(Sort(("name",), descending=True),),
    deletable=True,
    limits=LIMITS,
    documents=frozenset({"metadata", "category.metadata"}),
    sort_documents=frozenset({"metadata"}),
)


def listed(*pairs, allowed=ALLOWED):
    """The plan of a list."""
    return parse_list(pairs, allowed, CODEC)


def refused(*pairs, parse=listed):
    """What is said of a list that is wrong: parameters and details."""
    with pytest.raises(MalformedRequestError) as raised:
        parse(*pairs)
    return [(violation.parameter, violation.detail) for violation in raised.value.violations]


# -- what a query string means ----------------------------------------------------------------------------------------


def test_an_empty_query_string_asks_for_the_first_page_in_the_default_order():
    plan = listed()
    assert plan.page == Page(20)
    assert plan.sort == (Sort(("name",), descending=True), Sort(("id",), descending=True))
    assert (plan.where, plan.fields, plan.include, plan.count, plan.deleted) == ((), (), (), "none", "exclude")
    assert plan.resource == "products"


@pytest.mark.parametrize(
    ("name", "text", "condition"),
    [
        ("name", "a,b", Filter(("name",), "eq", ("a,b",))),
        ("name__eq", "a", Filter(("name",), "eq", ("a",))),
        ("id__in", "1,2", Filter(("id",), "in", (1, 2))),
        ("name__in", '"a,b",c', Filter(("name",), "in", ("a,b", "c"))),
        ("id__between", "1,2", Filter(("id",), "between", (1, 2))),
        ("category.name__ne", "a", Filter(("category", "name"), "ne", ("a",))),
        ("note__is_null", "true", Filter(("note",), "is_null", (True,))),
        ("name__icontains", "50%_\\", Filter(("name",), "icontains", ("%50\\%\\_\\\\%",))),
        ("name__startswith", "50%", Filter(("name",), "startswith", ("50\\%%",))),
        ("name__like", "50%", Filter(("name",), "like", ("50%",))),
        ("metadata__has_key", "a.b", Filter(("metadata",), "has_key", ("a.b",))),
        ("metadata__contains", '{"a": 1}', Filter(("metadata",), "contains", ('{"a": 1}',))),
        ("metadata.a.b", "red", Filter(("metadata",), "eq", ('"red"',), ("a", "b"))),
        ("metadata.a", "5", Filter(("metadata",), "eq", ("5", '"5"'), ("a",))),
        ("metadata.a__gt", "5", Filter(("metadata",), "gt", ("5",), ("a",))),
        ("metadata.a__between", "1,b", Filter(("metadata",), "between", ('"1"', '"b"'), ("a",))),
        ("metadata.a__in", "1,b", Filter(("metadata",), "in", ("1", '"1"', '"b"'), ("a",))),
        ("metadata.a__contains", '"b"', Filter(("metadata",), "contains", ('"b"', '["b"]'), ("a",))),
        ("metadata.my__key__eq", "b", Filter(("metadata",), "eq", ('"b"',), ("my__key",))),
        ("metadata.ü \"'{%", "b", Filter(("metadata",), "eq", ('"b"',), ("ü \"'{%",))),
    ],
)
def test_a_parameter_is_a_condition(name, text, condition):
    assert listed((name, text)).where == (condition,)


def test_conditions_may_be_repeated_and_come_in_any_order():
    pairs = [("id__gt", "1"), ("id__gt", "2"), ("name", "a")]
    assert len(listed(*pairs).where) == 3
    assert listed(*pairs) == listed(*reversed(pairs))


def test_groups_join_conditions_and_nest():
    plan = listed(("or", '(id=1,not=(name__in=(a,"b,c")))'))
    inner = Group("not", (Filter(("name",), "in", ("a", "b,c")),))
    assert plan.where == (Group("or", (Filter(("id",), "eq", (1,)), inner)),)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("price", [("price", False), ("id", False)]),
        ("-price, category.name", [("price", True), ("category.name", False), ("id", False)]),
        ("price,-name", [("price", False), ("name", True), ("id", True)]),
        ("-id,name", [("id", True), ("name", False)]),
    ],
)
def test_the_primary_key_ends_every_order_in_the_direction_of_the_key_before_it(text, keys):
    assert [(".".join(key.path), key.descending) for key in listed(("sort", text)).sort] == keys


def test_a_sort_key_may_lie_inside_a_document():
    sort = listed(("sort", "-metadata.size.cm,metadata.colour")).sort
    assert sort[:2] == (
        Sort(("metadata",), descending=True, json_path=("size", "cm")),
        Sort(("metadata",), json_path=("colour",)),
    )


def test_fields_may_name_parts_of_documents():
    plan = listed(("fields", "id,metadata.b,metadata.a.c,category.metadata.x"), ("include", "category"))
    assert plan.fields == ("category.metadata", "id", "metadata")
    assert plan.excerpts == (Excerpt("category.metadata", (("x",),)), Excerpt("metadata", (("a", "c"), ("b",))))


def test_a_whole_document_includes_its_parts():
    plan = listed(("fields", "metadata.a,metadata"))
    assert (plan.fields, plan.excerpts) == (("metadata",), ())


def test_an_embed_brings_those_that_lead_to_it():
    assert listed(("include", "tags, category.parent")).include == ("category", "category.parent", "tags")


def test_fields_of_an_embed_can_be_chosen_where_it_is_included():
    plan = listed(("fields", "name,id,name,category.name"), ("include", "category.parent"))
    assert plan.fields == ("category.name", "id", "name")


def test_a_page_has_a_size_and_a_number():
    assert listed(("limit", "50")).page == Page(50)
    assert listed(("per_page", "10"), ("page", "3")).page == Page(10, offset=20)
    assert listed(("page", "2")).page == Page(20, offset=20)


def test_a_cursor_is_where_the_page_starts():
    position = Position(("a", "1"))
    cursor = CODEC.encode(position, listed(("price__gt", "1")).fingerprint())
    assert listed(("cursor", cursor), ("price__gt", "1"), ("limit", "3")).page == Page(3, position)


def test_a_field_that_is_named_like_a_parameter_is_filtered_by_with_its_operator():
    rule = FieldRule("count", Kind.INTEGER, nullable=False)
    allowed = AllowList("x", {"count": rule}, frozenset(), frozenset(), frozenset(), (Sort(("id",)),))
    assert listed(("count__eq", "1"), allowed=allowed).where == (Filter(("count",), "eq", (1,)),)


def test_a_single_row_is_shown_with_fields_and_embeds():
    plan = parse_view([("fields", "id"), ("include", "tags"), ("deleted", "include")], ALLOWED)
    assert (plan.fields, plan.include, plan.deleted, plan.page) == (("id",), ("tags",), "include", None)


# -- what is said of a mistake ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "detail"),
    [
        ("prise", "1", "There is no parameter 'prise'; did you mean 'price'?"),
        ("price_gte", "1", "There is no parameter 'price_gte'; did you mean 'price__gte'?"),
        ("limt", "1", "There is no parameter 'limt'; did you mean 'limit'?"),
        ("categry.name", "1", "There is no parameter 'categry.name'; did you mean 'category.name'?"),
        ("metadta.colour", "1", "There is no parameter 'metadta.colour'; did you mean 'metadata.colour'?"),
        (
            "zzz",
            "1",
            "There is no filter 'zzz'; possible: category.name, id, metadata, name, note, price.",
        ),
        ("", "1", "There is no filter ''; possible: category.name, id, metadata, name, note, price."),
        (
            "price__icontains",
            "1",
            "'price' has no operator 'icontains'; possible: eq, ne, lt, lte, gt, gte, in, not_in, between.",
        ),
        ("price__", "1", "'price' has no operator ''; possible: eq, ne, lt, lte, gt, gte, in, not_in, between."),
        (
            "price__is_null",
            "true",
            "'price' has no operator 'is_null'; possible: eq, ne, lt, lte, gt, gte, in, not_in, between.",
        ),
        (
            "name__gt",
            "a",
            "'name' has no operator 'gt'; possible: eq, ne, in, not_in, like, ilike, icontains, startswith.",
        ),
        (
            "metadata",
            "{}",
            "'metadata' needs an operator (metadata__contains, metadata__has_key) or a key, as in metadata.key.",
        ),
        ("metadata..a", "1", "There is no parameter 'metadata..a'; did you mean 'metadata__has_key'?"),
        ("metadata." + ".".join("a" * 33), "1", "Must not go deeper than 32 keys."),
        ("id", "x", "Must be an integer of at most 30 digits."),
        ("id", "8", "Must be between -8 and 7."),
        ("id__in", "1,,2", "Must be an integer of at most 30 digits."),
        ("id__in", "1,2,3,4,5", "Must not list more than 4 values."),
        ("id__between", "1", "Must be two values with a comma between them."),
        ("name__in", '"a', "Expected a closing quote at position 3."),
        ("note__is_null", "yes", "Must be true or false."),
        (
            "name__like",
            "a\\",
            "Must not end with a backslash, which escapes the next character; write \\\\ for a backslash.",
        ),
        ("metadata__contains", "{", 'Must be JSON, such as {"colour":"red"}.'),
        ("name", "\x00", "Must not contain the NUL character."),
        ("name", "\ud800", "Must not contain a lone surrogate."),
        ("or", "id=1", "Expected '(' at position 1."),
        ("or", "(or=(or=(id=1)))", "Must not be nested deeper than 2 groups."),
        ("or", "(id=1,prise=2)", "prise: There is no filter 'prise'; did you mean 'price'?"),
        (
            "or",
            "(limit=1)",
            "limit: There is no filter 'limit'; possible: category.name, id, metadata, name, note, price.",
        ),
        ("not", "(or=(id=x))", "id: Must be an integer of at most 30 digits."),
        ("and", "(id=1,id=2,id=3,id=4,id=5)", "There are more than 3 conditions."),
        ("sort", "", "Must be names with commas between them."),
        ("sort", "name,,id", "Must be names with commas between them."),
        ("sort", "nam", "There is no sort key 'nam'; did you mean 'name'?"),
        ("sort", "--name", "There is no sort key '-name'; did you mean 'name'?"),
        ("sort", "name,-name", "Names 'name' twice."),
        ("sort", "note,note,note,note,note", "Must not list more than 4 names."),
        ("fields", "nam", "There is no field 'nam'; did you mean 'name'?"),
        (
            "fields",
            "password",
            (
                "There is no field 'password'; possible: category.metadata, category.name, category.parent.name, "
                "id, metadata, name."
            ),
        ),
        ("fields", "category.name", "'category.name' needs include=category."),
        ("fields", "category.metadata.x", "'category.metadata.x' needs include=category."),
        ("fields", "metadta.a", "There is no field 'metadta.a'; did you mean 'metadata.a'?"),
        ("fields", "metadata..a", "There is no field 'metadata..a'; did you mean 'metadata.a'?"),
        ("fields", "metadata." + ".".join("a" * 33), "Must not go deeper than 32 keys."),
        ("sort", "metadata", "'metadata' needs a key, as in metadata.key."),
        ("sort", "metadta.a", "There is no sort key 'metadta.a'; did you mean 'metadata.a'?"),
        ("sort", "metadata.a.", "There is no sort key 'metadata.a.'; did you mean 'metadata.a'?"),
        ("sort", "metadata." + ".".join("a" * 33), "Must not go deeper than 32 keys."),
        ("sort", "metadata.a,-metadata.a", "Names 'metadata.a' twice."),
        ("include", "tag", "There is no relation 'tag'; did you mean 'tags'?"),
        ("include", "category.parent.parent", "'category.parent.parent' goes deeper than 2 levels."),
        ("count", "all", "Must be one of: none, exact, estimated."),
        ("deleted", "yes", "Must be one of: exclude, include, only."),
        ("limit", "0", "Must be between 1 and 50."),
        ("limit", "51", "Must be between 1 and 50."),
        ("limit", "ten", "Must be an integer of at most 30 digits."),
        ("page", "7", "Must be between 1 and 6."),
        ("page", "-1", "Must be between 1 and 6."),
        ("per_page", "51", "Must be between 1 and 50."),
        ("cursor", "x", "Must be a cursor of this list, with the same filters and sort."),
    ],
)
def test_a_mistake_is_named_with_what_would_be_right(name, text, detail):
    assert refused((name, text)) == [(name, detail)]


def test_all_mistakes_are_told_at_once():
    found = refused(("prise", "1"), ("id", "x"), ("sort", "x"), ("include", "x"), ("limit", "x"), ("count", "x"))
    assert [parameter for parameter, _ in found] == ["prise", "id", "sort", "limit", "include", "count"]


def test_what_steers_the_page_may_be_given_once_only():
    assert refused(("limit", "1"), ("limit", "2")) == [("limit", "Must be given once only.")]


def test_numbered_pages_and_cursors_do_not_mix():
    detail = "Cannot be used with limit; number pages or follow cursors."
    assert refused(("page", "1"), ("limit", "2")) == [("page", detail)]


def test_the_offset_is_limited_by_the_size_of_the_page():
    assert listed(("page", "11"), ("per_page", "10")).page == Page(10, offset=100)
    assert refused(("page", "12"), ("per_page", "10")) == [("page", "Must be between 1 and 11.")]


def test_conditions_are_counted_over_all_parameters_and_groups():
    assert len(listed(("id", "1"), ("or", "(id=1,id=2)")).where) == 2
    found = refused(("id", "1"), ("or", "(id=1,id=2,id=3)"), ("nonsense", ""))
    assert found == [("or", "There are more than 3 conditions.")]


def test_deleted_rows_are_no_topic_where_rows_are_not_marked_as_deleted():
    allowed = AllowList("x", {}, frozenset(), frozenset(), frozenset(), (Sort(("id",)),))
    found = refused(("deleted", "only"), parse=lambda *pairs: listed(*pairs, allowed=allowed))
    assert [parameter for parameter, _ in found] == ["deleted"]


def test_a_single_row_takes_no_parameters_of_lists():
    found = refused(("limit", "1"), ("name", "a"), ("filds", "id"), parse=lambda *pairs: parse_view(pairs, ALLOWED))
    assert found == [
        ("limit", "This parameter is for lists."),
        ("name", "There is no parameter 'name'; possible: deleted, fields, include."),
        ("filds", "There is no parameter 'filds'; did you mean 'fields'?"),
    ]


def test_a_name_of_any_length_or_content_is_repeated_in_a_form_that_can_be_written():
    for names in (("x" * 10_000, ""), ("\ud800", ""), ("or", f"({'x' * 10_000}=)"), ("id__" + "x" * 10_000, "")):
        [(parameter, detail)] = refused(names)
        assert parameter.encode()
        assert len(parameter) <= 101
        assert len(detail) < 400


def test_a_sort_by_more_paths_than_a_cursor_has_room_for_is_refused():
    paths = [f"metadata.k{number}" for number in range(6)]
    plenty = replace(ALLOWED, limits=replace(ALLOWED.limits, list_max=20))
    assert len(parse_list([("sort", ",".join(paths[:5]))], plenty, CODEC).sort) == 6
    with pytest.raises(MalformedRequestError) as refused:
        parse_list([("sort", ",".join(paths))], plenty, CODEC)
    assert [violation.detail for violation in refused.value.violations] == [
        "Must not name more than 5 paths into documents."
    ]
