"""Rate limits over HTTP: for each address before it is known who is calling, and for each caller after."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.core.access.caller import Caller
from api.core.http.rate_limits import network_of
from api.extensions import db
from tests.apps import create_app
from tests.callers import ADMIN, as_caller

TAGS = "/api/v1/tags"


@pytest.fixture
def app_with(settings, database):
    """`app_with(rate_limit_caller="5/minute")`: an application with these settings."""
    del database

    def make(**limits):
        return create_app(replace(settings, **limits))

    yield make
    db.shutdown()


def client_from(app, address, caller=None):
    client = as_caller(app.test_client(), caller)
    client.environ_base["REMOTE_ADDR"] = address
    return client


def statuses(client, number, path=TAGS, **options):
    return [client.get(path, **options).status_code for _ in range(number)]


def test_a_caller_may_send_so_many_requests_and_then_has_to_wait(app_with):
    client = as_caller(app_with(rate_limit_caller="5/minute").test_client(), ADMIN)
    assert statuses(client, 5) == [200] * 5
    refused = client.get(TAGS)
    assert refused.status_code == 429
    assert refused.mimetype == "application/problem+json"
    assert refused.headers["Retry-After"] == "12"
    assert refused.json["title"] == "Too many requests"
    assert refused.json["detail"] == "These are more requests than 5 in 60 seconds for one caller."


def test_each_caller_has_a_limit_of_their_own_wherever_they_call_from(app_with):
    app = app_with(rate_limit_caller="2/minute")
    assert statuses(client_from(app, "192.0.2.1", ADMIN), 1) == [200]
    assert statuses(client_from(app, "192.0.2.2", ADMIN), 2) == [200, 429]
    other = replace(ADMIN, name="user:1000002", user_id=1_000_002)
    assert statuses(client_from(app, "192.0.2.2", other), 1) == [200]


def test_each_address_has_a_limit_of_its_own(app_with):
    app = app_with(rate_limit_address="2/minute")
    assert statuses(client_from(app, "192.0.2.1", ADMIN), 3) == [200, 200, 429]
    assert statuses(client_from(app, "192.0.2.2", ADMIN), 1) == [200]


def test_wrong_credentials_count_for_the_address_so_that_nobody_guesses_them(app_with):
    client = client_from(app_with(rate_limit_address="2/minute"), "192.0.2.1")
    assert statuses(client, 3, headers={"Authorization": "Bearer guess"}) == [401, 401, 429]


def test_addresses_that_do_not_exist_count_too(app_with):
    client = client_from(app_with(rate_limit_address="2/minute"), "192.0.2.1", ADMIN)
    assert statuses(client, 3, path="/api/v1/nothing") == [404, 404, 429]


def test_every_answer_tells_what_is_left(app_with):
    app = app_with(rate_limit_address="100/hour", rate_limit_caller="5/minute")
    client = client_from(app, "192.0.2.1", ADMIN)
    for left, path in [(4, TAGS), (3, f"{TAGS}/4711"), (2, f"{TAGS}?colour=red")]:
        answer = client.get(path)
        assert answer.headers["RateLimit-Policy"] == '"address";q=100;w=3600, "caller";q=5;w=60'
        assert answer.headers["RateLimit"] == f'"address";r={left + 95}, "caller";r={left}'
    nobody = client_from(app, "192.0.2.2").get("/")
    assert nobody.headers["RateLimit"] == '"address";r=99'


def test_a_refusal_tells_which_limit_it_was_and_for_how_long(app_with):
    client = client_from(app_with(rate_limit_address="1/minute"), "192.0.2.1", ADMIN)
    client.get(TAGS)
    refused = client.get(TAGS)
    assert refused.headers["RateLimit"] == '"address";r=0;t=60'
    assert refused.headers["Retry-After"] == "60"


def test_probes_and_metrics_are_never_refused(app_with):
    client = client_from(app_with(rate_limit_address="1/minute"), "192.0.2.1")
    for path in ("/livez", "/readyz", "/metrics"):
        assert statuses(client, 3, path=path) == [200] * 3


@pytest.mark.parametrize(
    ("method", "path", "cost"),
    [
        ("GET", TAGS, 1),
        ("POST", TAGS, 1),
        ("GET", f"{TAGS}/aggregate", 5),
        ("GET", f"{TAGS}/export", 10),
        ("POST", f"{TAGS}/import", 10),
        ("POST", f"{TAGS}/bulk", 10),
        ("DELETE", TAGS, 10),
    ],
)
def test_what_keeps_the_database_busy_counts_more(app_with, method, path, cost):
    client = client_from(app_with(rate_limit_address="100/hour"), "192.0.2.1", ADMIN)
    assert client.open(path, method=method).headers["RateLimit"] == f'"address";r={100 - cost}'


def test_without_limits_nothing_is_counted(client):
    answer = client.get(TAGS)
    assert not {"RateLimit", "RateLimit-Policy"} & {*answer.headers.keys()}


# -- where a request comes from


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("x" * 1000, "x" * 64),
    ],
)
def test_an_ipv6_network_counts_as_one_sender(address, network):
    assert network_of(address) == network


def test_nobody_gets_another_address_by_a_header(app_with):
    client = client_from(app_with(rate_limit_address="2/minute"), "192.0.2.1", ADMIN)
    answers = [
        client.get(TAGS, headers={"X-Forwarded-For": f"198.51.100.{number}", "Forwarded": "for=198.51.100.9"})
        for number in range(3)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_behind_a_proxy_the_address_is_the_one_that_the_proxy_saw(app_with):
    client = client_from(app_with(rate_limit_address="2/minute", trusted_proxies=1), "127.0.0.1", ADMIN)

    def status(forwarded):
        return client.get(TAGS, headers={"X-Forwarded-For": forwarded}).status_code

    # What the sender has put in front is not believed.
    assert [status(f"198.51.100.{number}, 192.0.2.1") for number in range(3)] == [200, 200, 429]
    assert status("192.0.2.2") == 200


def test_a_header_with_fewer_addresses_than_there_are_proxies_is_not_believed(app_with):
    client = client_from(app_with(rate_limit_address="2/minute", trusted_proxies=2), "127.0.0.1", ADMIN)
    answers = [client.get(TAGS, headers={"X-Forwarded-For": f"198.51.100.{number}"}) for number in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_a_caller_without_an_account_has_no_limit_but_the_address_s(app_with):
    client = as_caller(app_with(rate_limit_caller="1/minute").test_client(), Caller("anonymous"))
    assert 429 not in statuses(client, 3, path="/")
