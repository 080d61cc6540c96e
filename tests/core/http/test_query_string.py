"""The query string: percent-encoded UTF-8, in pairs, and not without end."""

from __future__ import annotations

import pytest

from tests.factories import TagFactory

TAGS = "/api/v1/tags"


def names(response):
    assert response.status_code == 200, response.text
    return [tag["name"] for tag in response.json["items"]]


@pytest.mark.parametrize(
    "name",
    ["ünïcødé 🛒", "a b", "a+b", "a&b=c", "100%", "#?/", "%41", '"quoted", (and) so on', "a\N{ZERO WIDTH JOINER}b"],
)
def test_any_text_arrives_as_it_was_sent(client, name):
    TagFactory(name=name)
    TagFactory(name="other")
    assert names(client.get(TAGS, query_string={"name": name})) == [name]


def test_a_plus_is_a_blank(client):
    TagFactory(name="a b")
    assert names(client.get(f"{TAGS}?name=a+b")) == ["a b"]


@pytest.mark.parametrize("query", ["name=%ff", "name=%c3%28", "%ff=1", "name=a&x=%ed%a0%80"])
def test_bytes_that_are_no_utf_8_are_malformed(client, query):
    response = client.get(f"{TAGS}?{query}")
    assert response.status_code == 400
    assert response.json["detail"] == "The query string is not percent-encoded UTF-8."


def test_a_filter_may_be_repeated_and_everything_else_may_not(client):
    TagFactory(name="abc")
    TagFactory(name="abd")
    assert names(client.get(f"{TAGS}?name__startswith=ab&name__icontains=c")) == ["abc"]
    assert names(client.get(f"{TAGS}?name__icontains=a&name__icontains=d")) == ["abd"]
    response = client.get(f"{TAGS}?sort=id&sort=name")
    assert response.status_code == 400
    assert response.json["errors"] == [{"parameter": "sort", "detail": "Must be given once only."}]


def test_a_hundred_parameters_are_enough(client):
    assert client.get(f"{TAGS}?{'&'.join(['name=x'] * 101)}").json["detail"] == (
        "The query string holds more than 100 parameters."
    )


@pytest.mark.parametrize("query", ["", "?", "?&", "?&&"])
def test_a_query_string_of_nothing_asks_for_nothing(client, query):
    TagFactory(name="a")
    assert names(client.get(TAGS + query)) == ["a"]


@pytest.mark.parametrize("query", ["name", "=", "=x", "sort="])
def test_a_parameter_without_a_name_or_value_is_told_so_or_taken_as_empty(client, query):
    TagFactory(name="a")
    assert client.get(f"{TAGS}?{query}").status_code == (200 if query == "name" else 400)


def test_a_write_reads_its_query_string_in_the_same_way(client):
    assert client.post(f"{TAGS}?fields=%ff", json={"name": "a"}).status_code == 400
    assert client.get(TAGS).json["items"] == []
