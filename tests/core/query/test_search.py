"""`q=` and `similar_to=`: which rows are found, in which order, on which page, and what is marked in them."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import fields as ma_fields

from api.app import API_PREFIX
from api.core.database.search import Search
from api.core.http.schema import BaseSchema, found_schema
from api.core.query.allowlist import Limits
from api.core.query.collection import Collection
from api.core.query.params import SEARCH_LENGTH_MAX
from api.resources.roles.models import Role
from api.resources.roles.schemas import RoleSchema
from tests.core.query.strategies import examples
from tests.factories import CategoryFactory, ProductFactory, TagFactory

LIST = f"{API_PREFIX}/products"
SHELF = (
    ("Wireless Keyboard", "Types without a cable.", "99.00"),
    ("Keyboard Stand", "Of beech.", "25.00"),
    ("Mechanical Typewriter", "Older than any keyboard.", "350.00"),
    ("Blue Mug", "Holds tea.", "8.00"),
    ("Mug Tree", "Holds every mug, blue or red.", "19.00"),
    ("Tea Towel", None, "6.50"),
)


@pytest.fixture
def shelf(client):
    """A few products of two categories."""
    desk, kitchen = CategoryFactory(name="Desk"), CategoryFactory(name="Kitchen")
    for number, (name, description, price) in enumerate(SHELF):
        ProductFactory(
            name=name, description=description, price=Decimal(price), category=desk if number < 3 else kitchen
        )
    return client


def names(client, **query):
    answer = client.get(LIST, query_string={"fields": "name", **query})
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json["items"]]


# -- words


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("keyboard", ["Keyboard Stand", "Wireless Keyboard", "Mechanical Typewriter"]),
        ("keyboards", ["Keyboard Stand", "Wireless Keyboard", "Mechanical Typewriter"]),
        ("KEYBOARD -cable -old", ["Keyboard Stand", "Mechanical Typewriter"]),
        ('"blue mug"', ["Blue Mug"]),
        ("blue mug", ["Blue Mug", "Mug Tree"]),
        ("mug -tree", ["Blue Mug"]),
        ("typewriter or towel", ["Mechanical Typewriter", "Tea Towel"]),
        ('"keyboard of beech"', []),
    ],
)
def test_words_phrases_alternatives_and_exclusions_are_understood(shelf, asked, found):
    assert sorted(names(shelf, q=asked)) == sorted(found)


def test_a_word_in_the_name_counts_more_than_one_in_the_description(shelf):
    assert names(shelf, q="keyboard")[-1] == "Mechanical Typewriter"


def test_words_that_stand_near_to_one_another_count_more(client):
    ProductFactory(name="Box", description="Blue is the sky, and far away from here there stands a mug.")
    ProductFactory(name="Crate", description="Holds a blue mug, and is the sky of far away things from here.")
    assert names(client, q='blue mug or "none"') == ["Crate", "Box"]


def test_a_given_sort_wins_over_the_rank(shelf):
    assert names(shelf, q="keyboard", sort="price") == ["Keyboard Stand", "Wireless Keyboard", "Mechanical Typewriter"]
    assert names(shelf, q="keyboard", sort="-price")[0] == "Mechanical Typewriter"
    assert names(shelf, q="mug", sort="-category.name,price") == ["Blue Mug", "Mug Tree"]


def test_a_search_goes_with_every_other_parameter(shelf):
    query = {"q": "mug", "category.name": "Kitchen", "price__lt": "10", "or": "(id__gt=0,sku=x)", "include": "category"}
    answer = shelf.get(LIST, query_string={**query, "fields": "name,category.name", "count": "exact", "limit": 1})
    assert answer.json == {
        "items": [{"name": "Blue Mug", "category": {"name": "Kitchen"}}],
        "next": None,
        "prev": None,
        "total": 1,
    }


def test_deleted_rows_are_found_by_who_asks_for_them_only(shelf):
    key = shelf.get(LIST, query_string={"q": "towel"}).json["items"][0]["id"]
    shelf.delete(f"{LIST}/{key}")
    assert names(shelf, q="towel") == []
    assert names(shelf, q="towel", deleted="only") == ["Tea Towel"]


def test_a_search_is_one_statement(shelf, statements):
    with statements() as counted:
        shelf.get(LIST, query_string={"q": "mug", "highlight": "true", "count": "exact", "include": "category,tags"})
        shelf.get(LIST, query_string={"similar_to": "mug", "highlight": "true", "count": "estimated"})
    assert counted.count == 2


def test_searches_for_different_texts_share_one_statement(app, shelf):
    del app
    cache = shelf.application.blueprints["products"].reader._statements
    names(shelf, q="mug")
    before = cache._cached.cache_info().misses
    names(shelf, q="keyboard")
    names(shelf, q="keybord stand")
    assert cache._cached.cache_info().misses == before


# -- typing errors


@pytest.mark.parametrize("asked", ["keybord", "keyborad", "wireles keybord", "Keybaord", "wirel", "wireles"])
def test_typing_errors_and_beginnings_of_words_are_forgiven(shelf, asked):
    assert "Wireless Keyboard" in names(shelf, q=asked)


def test_rows_with_the_words_come_before_rows_that_are_alike(client):
    ProductFactory(name="Keyboard", description=None)
    ProductFactory(name="A misspelled keybord", description=None)
    assert names(client, q="keybord") == ["A misspelled keybord", "Keyboard"]


def test_where_enough_rows_have_the_words_none_is_added_that_is_only_alike(client):
    ProductFactory.create_batch(5, name="Mug")
    ProductFactory(name="Muggle")
    assert set(names(client, q="mug")) == {"Mug"}


@pytest.mark.parametrize("asked", ['"keybord"', "keybord -mug", "keybord or qwertz"])
def test_who_writes_quotes_or_exclusions_means_every_letter(shelf, asked):
    assert names(shelf, q=asked) == []


def test_what_is_alike_must_meet_the_other_conditions(shelf):
    assert names(shelf, q="keybord", **{"category.name": "Kitchen"}) == []
    assert names(shelf, q="keybord", **{"category.name": "Desk"}) == ["Keyboard Stand", "Wireless Keyboard"]


# -- similar_to


def test_similar_names_come_likest_first(shelf):
    assert names(shelf, similar_to="Keybord Stand")[0] == "Keyboard Stand"
    assert "Tea Towel" not in names(shelf, similar_to="Keybord Stand")


def test_similarity_goes_with_filters_sorts_and_pages(shelf):
    answer = shelf.get(LIST, query_string={"similar_to": "keyboard", "limit": 1, "count": "exact", "price__gt": "20"})
    assert (len(answer.json["items"]), answer.json["total"]) == (1, 2)
    following = shelf.get(answer.json["next"]).json
    assert (len(following["items"]), following["next"]) == (1, None)
    assert names(shelf, similar_to="keyboard", sort="price") == ["Keyboard Stand", "Wireless Keyboard"]


# -- pages


def pages(client, **query):
    """The names on each page, forward."""
    url = None
    while True:
        answer = client.get(url) if url else client.get(LIST, query_string={"fields": "id", **query})
        yield [item["id"] for item in answer.json["items"]]
        url = answer.json["next"]
        if url is None:
            return


@pytest.fixture
def many(client):
    """Rows of many equal ranks."""
    for number in range(23):
        ProductFactory(name="Blue mug" if number % 3 else "Mug", description="A mug. " * (number % 4))
    return client


@pytest.mark.parametrize(
    "query", [{"q": "mug"}, {"q": "blue mugg"}, {"similar_to": "blue mug"}, {"q": "mug", "sort": "name"}]
)
@pytest.mark.parametrize("size", [1, 4, 23])
def test_pages_by_cursor_are_the_whole_list_without_gap_or_repetition(many, query, size):
    whole = [item["id"] for item in many.get(LIST, query_string={**query, "limit": 100}).json["items"]]
    assert len(whole) >= 15
    assert [key for page in pages(many, **query, limit=size) for key in page] == whole
    assert [key for page in pages(many, **query, page=1, per_page=size) for key in page] == whole


def test_a_page_leads_back_to_the_one_before(many):
    first = many.get(LIST, query_string={"q": "mug", "limit": 5, "fields": "id"}).json
    second = many.get(first["next"]).json
    assert many.get(second["prev"]).json["items"] == first["items"]


@pytest.mark.parametrize("query", [{"q": "mug"}, {"q": "blue mugg"}, {"similar_to": "blue mug"}])
@pytest.mark.parametrize("count", ["exact", "estimated"])
def test_the_total_counts_what_all_pages_show(many, query, count):
    many.get(LIST)
    whole = len(many.get(LIST, query_string={**query, "limit": 100}).json["items"])
    total = many.get(LIST, query_string={**query, "limit": 2, "count": count}).json["total"]
    assert total == whole if count == "exact" else total >= 2


@pytest.mark.parametrize("other", [{"q": "blue"}, {"similar_to": "mug"}, {}])
def test_a_cursor_belongs_to_its_search(many, other):
    token = many.get(LIST, query_string={"q": "mug", "limit": 2}).json["next"].rpartition("cursor=")[2]
    answer = many.get(LIST, query_string={**other, "limit": 2, "cursor": token})
    assert (answer.status_code, answer.json["errors"][0]["parameter"]) == (400, "cursor")


def test_ranks_never_rise_from_one_row_to_the_next(many):
    cursors = []
    url = many.get(LIST, query_string={"q": "mug", "limit": 1}).json["next"]
    while url:
        cursors.append(url)
        url = many.get(url).json["next"]
    assert len(cursors) == 22
    assert all(one != other for one, other in pairwise(cursors))


# -- highlights


def highlights(client, **query):
    answer = client.get(LIST, query_string={"highlight": "true", "fields": "id", **query})
    assert answer.status_code == 200, answer.text
    return [item["highlights"] for item in answer.json["items"]]


def test_what_is_found_is_marked_in_every_field_that_is_searched(shelf):
    assert highlights(shelf, q="mugs tree") == [
        {"name": "<mark>Mug</mark> <mark>Tree</mark>", "description": "Holds every <mark>mug</mark>, blue or red."}
    ]


def test_words_that_are_alike_are_marked_in_the_name(shelf):
    assert highlights(shelf, q="keybord stan")[0] == {
        "name": "<mark>Keyboard</mark> <mark>Stand</mark>",
        "description": "Of beech.",
    }
    assert highlights(shelf, similar_to="Tea Towl") == [
        {"name": "<mark>Tea</mark> <mark>Towel</mark>", "description": None}
    ]


def test_without_being_asked_for_nothing_is_marked(shelf):
    for query in ({"q": "mug"}, {"q": "mug", "highlight": "false"}):
        assert all("highlights" not in item for item in shelf.get(LIST, query_string=query).json["items"])


@pytest.mark.parametrize("query", [{"q": "alert script"}, {"q": "alrt"}, {"similar_to": "<script>alert('1')</script>"}])
def test_markup_in_a_text_never_comes_out_alive(client, query):
    markup = """<script>alert('1')</script> & <b title="x">Mug</b> <mark>&lt;i&gt;</mark>"""
    ProductFactory(name=markup, description=markup + " alert " * 40)
    (marked,) = highlights(client, **query)
    for content in marked.values():
        bare = content.replace("<mark>", "").replace("</mark>", "")
        assert "<mark>" in content or "<mark>" not in marked["description"]
        assert not set(bare) & set("<>\"'")
    assert "<mark>alert</mark>" in marked["name"]
    assert "&amp;lt;i" in marked["name"]


@pytest.mark.usefixtures("database")
def test_no_text_comes_out_alive(client):
    product = ProductFactory(name="x")

    @examples(60)
    @given(
        content=st.text("<>&\"'/= ab;#3mark", min_size=1, max_size=40),
        query=st.sampled_from(["mark a b", "amp", "lt", "39"]),
    )
    def check(content, query):
        answer = client.patch(f"{LIST}/{product.id}", json={"name": f"{content} a", "description": content})
        assert answer.status_code == 200
        for kind in ("q", "similar_to"):
            for marked in highlights(client, **{kind: f"{query} {content}"[:200]}):
                for value in marked.values():
                    assert not set(value.replace("<mark>", "").replace("</mark>", "")) & set("<>\"'")

    check()


def test_a_long_text_is_shown_by_the_passage_that_was_found(client):
    ProductFactory(name="Box", description="Much is said. " * 200 + "Then comes a teapot. " + "More is said. " * 200)
    (marked,) = highlights(client, q="teapot")
    assert "<mark>teapot</mark>" in marked["description"]
    assert len(marked["description"]) < 500


# -- input that makes no sense


@pytest.mark.parametrize("parameter", ["q", "similar_to"])
@pytest.mark.parametrize("given", ["", "  ", "\t", "x" * (SEARCH_LENGTH_MAX + 1), "a\x00b"])
def test_a_text_that_cannot_be_searched_for_is_refused_by_name(client, parameter, given):
    answer = client.get(LIST, query_string={parameter: given})
    assert (answer.status_code, answer.json["errors"][0]["parameter"]) == (400, parameter)


def test_the_longest_text_is_searched_for(client):
    assert names(client, q="a b " * (SEARCH_LENGTH_MAX // 4)) == []


@pytest.mark.parametrize(
    "asked",
    [
        "the",
        "the of and",
        '"the"',
        "-",
        "--",
        '"',
        '""',
        "or",
        "or or",
        "-mug",
        '-"blue mug"',
        "!!!",
        "&",
        "a & !b",
        "<->",
        "(",
        ":*",
        "'",
    ],
)
@pytest.mark.parametrize("options", [{}, {"highlight": "true", "count": "exact"}])
def test_a_search_without_a_word_to_find_finds_nothing(shelf, asked, options):
    assert names(shelf, q=asked, **options) == []


def test_a_stop_word_still_finds_names_that_are_alike(client):
    ProductFactory(name="The Who")
    assert names(client, q="the") == ["The Who"]


@pytest.mark.parametrize(
    ("query", "parameter", "detail"),
    [
        ({"highlight": "true"}, "highlight", "Must come with q or similar_to."),
        ({"q": "a", "highlight": "yes"}, "highlight", "Must be one of: false, true."),
        ({"q": "a", "similar_to": "b"}, "similar_to", "Cannot be used with q."),
        ([("q", "a"), ("q", "b")], "q", "Must be given once only."),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_name(client, query, parameter, detail):
    answer = client.get(LIST, query_string=query)
    assert answer.status_code == 400
    assert answer.json["errors"] == [{"parameter": parameter, "detail": detail}]


@pytest.mark.parametrize("parameter", ["q", "similar_to", "highlight"])
def test_a_resource_that_declares_no_search_knows_no_such_parameter(client, parameter):
    answer = client.get(f"{API_PREFIX}/orders", query_string={parameter: "true"})
    assert answer.status_code == 400
    assert "There is no" in answer.json["errors"][0]["detail"]


def test_a_single_row_is_not_searched_for(client):
    product = ProductFactory(name="Mug")
    answer = client.get(f"{LIST}/{product.id}", query_string={"q": "mug"})
    assert answer.status_code == 400, answer.text
    assert answer.json["errors"] == [{"parameter": "q", "detail": "This parameter is for lists."}]


@pytest.mark.parametrize("parameter", ["q", "similar_to", "highlight"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/aggregate", None),
        ("GET", "/{id}/history", None),
        ("POST", "/{id}/restore", None),
        ("POST", "/bulk", {"items": [{"id": 1, "stock_quantity": 7}]}),
        ("PATCH", "/bulk", {"items": [{"id": 1, "stock_quantity": 7}]}),
        ("DELETE", "/bulk", {"items": [{"id": 1, "stock_quantity": 7}]}),
        ("PATCH", "", {"stock_quantity": 7}),
        ("DELETE", "", None),
    ],
)
@pytest.mark.parametrize("others", [{}, {"name": "Mug"}])
def test_what_cannot_be_searched_refuses_to_and_changes_nothing(client, parameter, method, path, body, others):
    product = ProductFactory(name="Mug", stock_quantity=1)
    url = f"{LIST}{path.format(id=product.id)}"
    answer = client.open(url, method=method, json=body, query_string={parameter: "true", **others})
    assert answer.status_code == 400, answer.text
    assert parameter in {error["parameter"] for error in answer.json["errors"]}
    shown = client.get(f"{LIST}/{product.id}")
    assert (shown.status_code, shown.json["stock_quantity"]) == (200, 1)


# -- the declaration


@pytest.mark.parametrize(
    ("path", "row", "asked"),
    [("tags", TagFactory, "handmade"), ("categories", CategoryFactory, "handmade")],
)
def test_other_resources_are_searched_as_they_declare(client, path, row, asked):
    row(name="Handmade things")
    row(name="Bought things")
    answer = client.get(f"{API_PREFIX}/{path}?q={asked}")
    assert [item["name"] for item in answer.json["items"]] == ["Handmade things"]


def test_users_are_found_by_name_and_address(client):
    client.post(
        f"{API_PREFIX}/users", json={"username": "ada", "email": "a@x.org", "password": "correct horse battery"}
    )
    for asked in ("ada", "a@x.org", "Ada"):
        assert [item["username"] for item in client.get(f"{API_PREFIX}/users?q={asked}").json["items"]] == ["ada"]


def test_only_what_is_public_can_be_searched(monkeypatch):
    class HiddenSchema(BaseSchema):
        class Meta(BaseSchema.Meta):
            model = Role

        id = ma_fields.Integer()

    monkeypatch.setattr(Role, "__search__", Search("name"), raising=False)
    assert Collection("roles", Role, HiddenSchema).allow_list(Limits()).searched == ()
    assert Collection("roles", Role, RoleSchema).allow_list(Limits()).searched == ("name",)
    assert found_schema(HiddenSchema, Role) is HiddenSchema


def test_the_document_tells_of_searches_where_there_are_any(app):
    document = app.test_client().get("/openapi.json").json
    parameters = {item["name"] for item in document["paths"][LIST]["get"]["parameters"]}
    assert {"q", "similar_to", "highlight"} <= parameters
    orders = {item["name"] for item in document["paths"][f"{API_PREFIX}/orders"]["get"]["parameters"]}
    assert not {"q", "similar_to", "highlight"} & orders
    exported = {item["name"] for item in document["paths"][f"{LIST}/export"]["get"]["parameters"]}
    assert {"q", "similar_to"} <= exported
    assert "highlight" not in exported
    found = document["components"]["schemas"]["FoundProduct"]["properties"]["highlights"]
    assert "ProductHighlights" in str(found)


def test_what_is_found_can_be_exported(shelf):
    answer = shelf.get(f"{LIST}/export?format=ndjson&fields=name&q=keyboard")
    assert [line.split('"')[3] for line in answer.text.splitlines()][-1] == "Mechanical Typewriter"
    refused = shelf.get(f"{LIST}/export?q=a&highlight=true")
    assert refused.json["errors"][0]["parameter"] == "highlight"
