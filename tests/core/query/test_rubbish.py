"""Whatever stands in a query string, the answer is a page or a problem that names the parameter."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.app import API_PREFIX
from api.core.http.error_handlers import PROBLEM_TYPE
from api.core.query.allowlist import JSON_PATH_OPERATORS, Limits
from tests.core.query.strategies import examples
from tests.factories import OrderFactory, OrderItemFactory, ProductFactory, ProfileFactory, RoleFactory, TagFactory

NASTY = [
    *("", " ", ",", ",,", ".", "..", "__", "-", "()", "((((", "))", '"', '""', '"""', "\\", "%", "_", "'", "''", ";--"),
    *("\x00", "\x01", "\n", "\u2028", "\u202e", "\ufeff", "\U0001f600", "\u0130", "\u0661", "\ufffd", "a\u0301"),
    *("0", "-0", "+1", "1.0", "1e999", "-1e-999", "NaN", "Infinity", "nan", "0x10", "1_000", "9" * 19, "9" * 500),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "0." + "0" * 400 + "1", "true", "null"),
    *("2026-01-31T12:30:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "infinity", "2026-01-31", "now"),
    *(
        "{}",
        "[]",
        "[[]]",
        '"a"',
        '{"a":1e400}',
        '{"a":' * 40,
        "[" * 5000,
        '{"\\u0000":1}',
        '"\\ud800"',
        '{"a":1e-9999}',
    ),
    *("%s", "%(p0)s", "%(size)s", "%%", ":p0", "$1", "{0}", "${x}", "<script>", "../../etc/passwd", "\r\nX: y"),
    *(
        "id",
        "-id",
        "id,id",
        "id,-name",
        "category",
        "category.name",
        "items.product.category.name",
        "user.password_hash",
    ),
    *("(id=1)", "(or=(and=(not=(id=1))))", "(" * 200, "(id=1" + ",id=1" * 50 + ")", "(id__in=(1,2)", "(=)", "(or=1)"),
    ",".join(map(str, range(200))),
    "a" * 3000,
]
texts = st.sampled_from(NASTY) | st.text(st.characters(codec="utf-8"), max_size=10)
STEERING = ["sort", "fields", "include", "limit", "cursor", "page", "per_page", "count", "deleted", "or", "and", "not"]


def names(resource):
    """Parameters of the resource, parameters like them, and others."""
    allowed = resource.collection.allow_list(Limits())
    known = st.sampled_from([*STEERING, *allowed.conditions])
    documents = [rule.name for rule in allowed.filters.values() if "has_key" in rule.operators]
    keys = st.lists(texts, min_size=1, max_size=3).map(".".join)
    inside = st.builds(
        "{}.{}__{}".format, st.sampled_from(documents or ["metadata"]), keys, st.sampled_from(JSON_PATH_OPERATORS)
    )
    return known | inside | st.builds("{}{}".format, known, texts) | texts


def assert_answered(answer, sent):
    if answer.status_code == 200:
        return
    assert (answer.status_code, answer.mimetype) == (400, PROBLEM_TYPE), sent
    errors = answer.json["errors"]
    assert errors
    for error in errors:
        assert error["detail"]
        assert any(name.startswith(error["parameter"].rstrip("…")) for name, _ in sent)


@pytest.fixture
def shop(database):
    """One row in every table."""
    del database
    ProductFactory(tags=[TagFactory()], metadata_={"a": {"b": [1, "x", None]}, "0": 1.5, "c d": True})
    ProfileFactory(user__roles=[RoleFactory()])
    OrderItemFactory(order=OrderFactory())


@pytest.mark.usefixtures("shop")
def test_any_list_is_a_page_or_a_problem_that_names_the_parameter(client, resources):
    @examples(300)
    @given(data=st.data())
    def run(data):
        name = data.draw(st.sampled_from(sorted(resources)))
        pairs = data.draw(st.lists(st.tuples(names(resources[name]), texts), min_size=1, max_size=3))
        assert_answered(client.get(f"{API_PREFIX}/{name}?{urlencode(pairs)}"), pairs)

    run()


@pytest.mark.usefixtures("shop")
def test_any_group_is_a_page_or_a_problem_that_names_the_parameter(client, resources):
    @examples(150)
    @given(data=st.data())
    def run(data):
        name = data.draw(st.sampled_from(sorted(resources)))
        members = data.draw(st.lists(st.tuples(names(resources[name]), texts), min_size=1, max_size=3))
        text = ",".join(f"{member}={value}" for member, value in members)
        pairs = [(data.draw(st.sampled_from(["or", "and", "not"])), f"({text})")]
        assert_answered(client.get(f"{API_PREFIX}/{name}?{urlencode(pairs)}"), pairs)

    run()


@pytest.mark.usefixtures("shop")
def test_any_view_of_one_row_is_the_row_or_a_problem_that_names_the_parameter(client, resources):
    @examples(80)
    @given(data=st.data())
    def run(data):
        name = data.draw(st.sampled_from(sorted(resources)))
        key = client.get(f"{API_PREFIX}/{name}").json["items"][0]["id"]
        pairs = data.draw(st.lists(st.tuples(names(resources[name]), texts), min_size=1, max_size=3))
        assert_answered(client.get(f"{API_PREFIX}/{name}/{key}?{urlencode(pairs)}"), pairs)

    run()


@pytest.mark.parametrize(
    "raw", ["name=%ff", "%ff=1", "name=%ed%a0%80", "name=%c0%80", "name=" + quote("é", encoding="latin1")]
)
def test_what_is_no_utf_8_is_refused(client, raw):
    answer = client.get(f"{API_PREFIX}/products?{raw}")
    assert (answer.status_code, answer.mimetype) == (400, PROBLEM_TYPE)
    assert "UTF-8" in answer.json["detail"]
