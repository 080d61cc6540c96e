"""Conditional requests: an ETag tells the version of a row; what is no ETag is told so."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.factories import CategoryFactory, ProductFactory, ProfileFactory, TagFactory


@pytest.fixture
def url(client):
    """The address of a tag of version 1."""
    del client
    return f"/api/v1/tags/{TagFactory().id}"


def of(url, tags):
    """`tags`, whose versions stand alone, as the tags of the row at `url`."""
    key = url.rpartition("/")[2]
    return re.sub(r'(?<=")([0-9]+)(?=["\];])', rf"{key}-\1", tags)


def patched(client, url, tag):
    return client.patch(url, json={"name": "renamed"}, headers={"If-Match": of(url, tag)})


# -- If-Match


@pytest.mark.parametrize("tag", ['"1"', "*", ' "1" ', " * ", '"7", "1"', '"1" , "7"', 'W/"7","1"'])
def test_an_if_match_that_matches_lets_the_change_happen(client, url, tag):
    assert patched(client, url, tag).status_code == 200


@pytest.mark.parametrize(
    "tag",
    [
        '"2"',
        '"0"',
        '"01"',
        '"+1"',
        '""',
        '"abc"',
        '"*"',
        '"1;gzip"',
        '"99999999999999999999"',
        'W/"1"',
        '"2", "3"',
        '"2", W/"1"',
        '"\u00e9"',
    ],
)
def test_an_if_match_that_does_not_match_refuses_it(client, url, tag):
    response = patched(client, url, tag)
    assert response.status_code == 412
    assert response.json["detail"] == "The resource has changed since the version you name; fetch it again."
    assert client.get(url).headers["ETag"] == of(url, '"1"')


@pytest.mark.parametrize("tag", ["", "1", "abc", '"', '"1', "'1'", "W/1", 'w/"1"', ",", '"1" "2"', "*, *", '"1",, "2'])
def test_an_if_match_that_is_no_tag_is_malformed(client, url, tag):
    response = patched(client, url, tag)
    assert response.status_code == 400
    example = of(url, '"3"')
    assert response.json["errors"] == [
        {"detail": f"Must be the ETag of the resource, such as {example}.", "header": "If-Match"}
    ]
    assert client.get(url).headers["ETag"] == of(url, '"1"')


def test_without_an_if_match_the_last_one_wins(client, url):
    assert client.patch(url, json={"name": "first"}).status_code == 200
    assert client.patch(url, json={"name": "second"}).status_code == 200
    assert client.get(url).json["name"] == "second"


def test_the_version_is_checked_after_the_row_is_found(client):
    assert patched(client, "/api/v1/tags/4711", '"1"').status_code == 404


def test_of_many_who_change_the_same_version_at_once_one_succeeds(app, url):
    def change(number):
        own = app.test_client()
        return own.patch(url, json={"name": f"name {number}"}, headers={"If-Match": of(url, '"1"')}).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(threads.map(change, range(8)))
    assert statuses == [200] + [412] * 7


# -- If-None-Match


@pytest.mark.parametrize("tag", ['"1"', 'W/"1"', "*", '"7", "1"', '"1", "7"', '"x" , W/"1"'])
def test_an_if_none_match_that_matches_is_answered_without_a_body(client, url, tag):
    response = client.get(url, headers={"If-None-Match": of(url, tag)})
    assert (response.status_code, response.data) == (304, b"")
    assert response.headers["ETag"] == of(url, '"1"')
    assert "Content-Type" not in response.headers


@pytest.mark.parametrize("tag", ['"2"', '"11"', "", '"', ",", '""', "\u00e9", '"1;gzip"', "W/", "**"])
def test_an_if_none_match_that_does_not_match_is_answered_with_the_row(client, url, tag):
    assert client.get(url, headers={"If-None-Match": of(url, tag)}).status_code == 200


def test_a_change_makes_the_old_tag_worthless(client, url):
    client.patch(url, json={"name": "renamed"})
    assert client.get(url, headers={"If-None-Match": of(url, '"1"')}).json["name"] == "renamed"


def test_with_embedded_rows_the_tag_says_nothing_because_they_change_without_it(client):
    product = ProductFactory(category=CategoryFactory(name="before"))
    url = f"/api/v1/products/{product.id}?include=category"
    tag = client.get(url).headers["ETag"]
    client.patch(f"/api/v1/categories/{product.category_id}", json={"name": "after"})
    assert client.get(url, headers={"If-None-Match": tag}).json["category"]["name"] == "after"


@pytest.mark.parametrize("query", ["", "?fields=name", "?fields=id,version"])
def test_the_row_is_not_even_written_as_json_for_who_has_it(client, url, query, statements):
    tag = client.get(url).headers["ETag"]
    with statements(keep_texts=True) as counted:
        assert client.get(url + query, headers={"If-None-Match": tag}).status_code == 304
    assert counted.count == 1
    assert "CASE WHEN" in counted.statements[0]


def test_the_tag_is_the_same_whatever_fields_are_asked_for(client, url):
    wanted = client.get(url).headers["ETag"]
    for query in ("?fields=name", "?fields=id", "?fields=created_at,version", "?deleted=include"):
        assert client.get(url + query).headers["ETag"] == wanted


def test_the_tag_of_a_sparse_answer_lets_a_change_happen(client, url):
    sparse = client.get(f"{url}?fields=name").headers["ETag"]
    changed = client.patch(f"{url}?fields=id", json={"name": "renamed"}, headers={"If-Match": sparse})
    assert changed.status_code == 200
    again = client.patch(url, json={"name": "again"}, headers={"If-Match": changed.headers["ETag"]})
    assert again.status_code == 200


def test_the_tag_of_another_row_never_matches(client, url):
    other = client.get(f"/api/v1/tags/{TagFactory().id}").headers["ETag"]
    assert client.patch(url, json={"name": "renamed"}, headers={"If-Match": other}).status_code == 412
    assert client.get(url, headers={"If-None-Match": other}).status_code == 200


# -- many at once


def test_every_one_of_200_changes_at_once_is_either_refused_or_reflected(app, client):
    url = f"/api/v1/products/{ProductFactory(stock_quantity=0).id}"

    def count_up(_number):
        """What two changes that read the same stock would lose."""
        own = app.test_client()
        seen = own.get(f"{url}?fields=stock_quantity")
        more = {"stock_quantity": seen.json["stock_quantity"] + 1}
        return own.patch(url, json=more, headers={"If-Match": seen.headers["ETag"]}).status_code

    with ThreadPoolExecutor(16) as threads:
        statuses = Counter(threads.map(count_up, range(200)))

    assert set(statuses) <= {200, 412}
    after = client.get(url).json
    assert after["stock_quantity"] == statuses[200] > 0
    assert after["version"] == statuses[200] + 1


def test_of_200_changes_of_the_same_version_one_succeeds(app, client):
    url = f"/api/v1/products/{ProductFactory(stock_quantity=0).id}"
    tag = client.get(url).headers["ETag"]

    def change(number):
        own = app.test_client()
        return own.patch(url, json={"stock_quantity": number}, headers={"If-Match": tag}).status_code, number

    with ThreadPoolExecutor(16) as threads:
        answers = [*threads.map(change, range(1, 201))]

    assert Counter(status for status, _ in answers) == {200: 1, 412: 199}
    winner = next(number for status, number in answers if status == 200)
    assert client.get(url).json["stock_quantity"] == winner


def test_the_update_itself_names_the_version(client, url, statements):
    with statements(keep_texts=True) as counted:
        client.patch(url, json={"name": "renamed"}, headers={"If-Match": of(url, '"1"')})
    update = next(text for text in counted.statements if text.startswith("UPDATE"))
    assert "tags.version = " in update.partition("WHERE")[2]


# -- what moves the version


def test_a_change_of_related_rows_is_a_change_of_the_resource(client):
    product = ProductFactory()
    response = client.patch(f"/api/v1/products/{product.id}", json={"tag_ids": [TagFactory().id]})
    assert response.headers["ETag"] == f'"{product.id}-2"'


@pytest.mark.parametrize("profile", [{"country": "Spain"}, None])
def test_a_change_of_a_profile_is_a_change_of_its_user(client, profile):
    url = f"/api/v1/users/{ProfileFactory().user_id}"
    before = client.get(url).json["version"]
    assert client.patch(url, json={"profile": profile}).json["version"] == before + 1


def test_if_match_may_list_several_versions(client):
    url = f"/api/v1/tags/{TagFactory().id}"
    assert patched(client, url, '"9", "1"').status_code == 200
    assert patched(client, url, '"9", "1"').status_code == 412
