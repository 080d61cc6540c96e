"""Pages and their neighbours: in the body, in `Link` (RFC 8288), and followed as they are."""

from __future__ import annotations

import re

import pytest

from api.core.http.responses import row_response
from api.core.query.read import Row
from tests.factories import TagFactory

TAGS = "/api/v1/tags"


@pytest.fixture
def five(database):
    """Five tags."""
    del database
    return [TagFactory(name=f"tag {number}").id for number in range(5)]


def ids(response):
    return [item["id"] for item in response.json["items"]]


def links(response):
    """The `Link` header as a dictionary."""
    return {relation: url for url, relation in re.findall(r'<([^>]*)>; rel="(\w+)"', response.headers.get("Link", ""))}


@pytest.mark.parametrize("query", ["limit=2", "per_page=2", "page=1&per_page=2"])
def test_the_pages_of_a_list_hang_together_in_both_directions(client, five, query):
    seen, page = [], client.get(f"{TAGS}?{query}")
    while True:
        seen += ids(page)
        if page.json["next"] is None:
            break
        page = client.get(page.json["next"])
    assert seen == five
    while page.json["prev"] is not None:
        page = client.get(page.json["prev"])
    assert ids(page) == five[:2]


@pytest.mark.parametrize("query", ["limit=2", "page=1&per_page=2"])
def test_the_header_names_the_same_neighbours_as_the_body(client, five, query):
    page = client.get(f"{TAGS}?{query}")
    for _ in range(3):
        named = {"next": page.json["next"], "prev": page.json["prev"]}
        assert links(page) == {relation: url for relation, url in named.items() if url}
        if page.json["next"]:
            page = client.get(page.json["next"])
    assert five


def test_a_list_on_one_page_has_no_neighbours(client, five):
    page = client.get(TAGS)
    assert (page.json["next"], page.json["prev"]) == (None, None)
    assert "Link" not in page.headers
    assert ids(page) == five


def test_a_neighbour_s_address_keeps_everything_else_that_was_asked_for(client, five):
    page = client.get(TAGS, query_string={"limit": 2, "sort": "-name", "fields": "name", "name__icontains": "tag "})
    following = client.get(page.json["next"])
    assert following.json["items"] == [{"name": "tag 2"}, {"name": "tag 1"}]
    assert five


def test_the_total_is_there_when_it_is_asked_for(client, five):
    assert client.get(f"{TAGS}?limit=2&count=exact").json["total"] == len(five)
    assert "total" not in client.get(f"{TAGS}?limit=2").json


@pytest.mark.usefixtures("five")
def test_a_neighbour_is_found_below_a_prefix_of_the_server(client):
    page = client.get(f"{TAGS}?limit=2", base_url="http://shop.example/backend")
    assert page.json["next"].startswith(f"/backend{TAGS}?")
    assert links(page)["next"] == page.json["next"]


def test_what_is_added_to_a_copy_of_the_headers_is_not_in_the_answer(app):
    with app.test_request_context():
        response = row_response(Row("{}", 1), 7)
    response.headers.copy()["X-Some"] = "1"
    assert "X-Some" not in response.headers
