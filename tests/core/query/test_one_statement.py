"""Every read is one statement, whatever it embeds, counts, filters and sorts by."""

from __future__ import annotations

import re

import pytest

from api.app import API_PREFIX
from api.core.http.views import ALLOW_LISTS
from api.core.query.allowlist import Limits
from tests.factories import OrderFactory, OrderItemFactory, ProductFactory, ProfileFactory, RoleFactory, TagFactory


@pytest.fixture(autouse=True)
def _shop(database):
    """Rows in every table, two on the many side of each relation."""
    del database
    tags = TagFactory.create_batch(2)
    for user in (ProfileFactory(user__roles=RoleFactory.create_batch(2)).user for _ in range(2)):
        order = OrderFactory(user=user)
        OrderItemFactory.create_batch(2, order=order, product=ProductFactory(tags=tags))


def embeds(resource):
    """Each embed by itself, none, and all at once."""
    includes = sorted(resource.collection.allow_list(Limits()).includes)
    return ["", *includes, ",".join(includes)]


def test_every_list_is_one_statement_with_any_embed(client, resources, statements):
    for name, resource in resources.items():
        for include in embeds(resource):
            with statements() as counted:
                answer = client.get(f"{API_PREFIX}/{name}", query_string={"include": include} if include else {})
            assert (name, include, answer.status_code, counted.count) == (name, include, 200, 1)
            assert len(answer.json["items"]) >= 2


def test_every_get_is_one_statement_with_any_embed(client, resources, statements):
    for name, resource in resources.items():
        key = client.get(f"{API_PREFIX}/{name}").json["items"][0]["id"]
        for include in embeds(resource):
            with statements() as counted:
                answer = client.get(f"{API_PREFIX}/{name}/{key}", query_string={"include": include} if include else {})
            assert (name, include, answer.status_code, counted.count) == (name, include, 200, 1)


def test_a_get_of_what_is_not_there_is_one_statement(client, statements):
    with statements() as counted:
        assert client.get(f"{API_PREFIX}/products/999999?include=tags").status_code == 404
    assert counted.count == 1


@pytest.mark.parametrize("count", ["none", "exact", "estimated"])
@pytest.mark.parametrize("page", [{"limit": "1"}, {"page": "2", "per_page": "1"}])
def test_a_filtered_sorted_and_counted_page_is_one_statement(client, statements, page, count):
    query = {"tags.name__ne": "none", "or": "(price__gt=1,category.name=x)", "sort": "-category.name", "count": count}
    with statements() as counted:
        answer = client.get(f"{API_PREFIX}/products", query_string={**query, **page, "include": "tags"})
    assert (answer.status_code, counted.count) == (200, 1)
    assert len(answer.json["items"]) == 1


def test_the_next_page_is_one_statement(client, statements):
    following = client.get(f"{API_PREFIX}/products?limit=1&sort=name").json["next"]
    with statements() as counted:
        assert len(client.get(following).json["items"]) == 1
    assert counted.count == 1


def test_no_path_of_the_api_takes_more_than_one_statement_to_read(app, client, statements):
    """Over every route that there is, so that a new one is measured without being named here."""
    counts = {}
    for rule in app.url_map.iter_rules():
        collection = rule.endpoint.partition(".")[0]
        if "GET" not in rule.methods or collection not in app.extensions[ALLOW_LISTS]:
            continue
        key = client.get(f"{API_PREFIX}/{collection}?fields=id").json["items"][0]["id"]
        path = re.sub(r"<[^>]+>", str(key), rule.rule)
        with statements() as counted:
            response = client.get(path, query_string={"count": "*"} if path.endswith("/aggregate") else {})
            response.get_data()
        assert response.status_code == 200, (path, response.text)
        counts[rule.rule] = counted.count
    assert set(counts.values()) == {1}, counts
    assert len(counts) > 20
