"""`/metrics`: in one process, and over gunicorn's workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from api.core.access.caller import Caller
from api.core.http import metrics, request_log
from api.extensions import db
from tests.apps import create_app
from tests.callers import ADMIN, as_caller

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def make_app(settings):
    apps = []

    def make():
        app = Flask("api", static_folder=None)
        app.config["PROPAGATE_EXCEPTIONS"] = False
        request_log.init_app(app, settings)
        db.init_app(app, replace(settings, pool_size=2, max_overflow=2))
        metrics.init_app(app, db)
        app.add_url_rule("/things/<int:number>", "thing", select, methods=["GET", "POST"])
        app.add_url_rule("/crashes", "crashes", crash)
        apps.append(app)
        return app

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def measured(make_app):
    return make_app()


def select(number):
    with db.read_connection() as connection:
        for _ in range(number):
            connection.execute(text("SELECT 1"))
    return ""


def crash():
    raise LookupError


def samples(exposition):
    """Every sample by its name and its labels in order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def scrape(app):
    return samples(app.test_client().get("/metrics").text)


def test_requests_are_counted_by_method_route_and_status(measured):
    client = measured.test_client()
    client.get("/things/0")
    client.get("/things/1")
    client.post("/things/1")
    client.get("/crashes")
    counts = {key[1:]: value for key, value in scrape(measured).items() if key[0] == "http_requests_total"}
    assert counts == {
        ("GET", "/things/<int:number>", "200"): 2,
        ("POST", "/things/<int:number>", "200"): 1,
        ("GET", "/crashes", "500"): 1,
    }


def test_latency_is_a_histogram_by_method_and_route(measured):
    measured.test_client().get("/things/1")
    found = scrape(measured)
    route = ("GET", "/things/<int:number>")
    assert found["http_request_duration_seconds_count", *route] == 1
    assert 0 < found["http_request_duration_seconds_sum", *route] < 10
    assert found["http_request_duration_seconds_bucket", "+Inf", *route] == 1
    assert found["http_request_duration_seconds_bucket", "10.0", *route] == 1


def test_statements_are_counted(measured):
    measured.test_client().get("/things/3")
    measured.test_client().get("/things/2")
    assert scrape(measured)["db_statements_total",] == 5


def test_paths_without_a_route_share_one_series(measured):
    client = measured.test_client()
    for number in range(20):
        client.get(f"/nowhere/{number}")
    routes = {key[2] for key in scrape(measured) if key[0] == "http_requests_total"}
    assert routes == {"unmatched"}


def test_unknown_methods_share_one_series(measured):
    client = measured.test_client()
    for number in range(20):
        client.open("/things/1", method=f"BREW{number}")
    methods = {key[1] for key in scrape(measured) if key[0] == "http_requests_total"}
    assert methods == {"OTHER"}


def test_an_idle_application_uses_no_connection_and_keeps_what_it_opened(measured):
    measured.test_client().get("/things/1")
    found = scrape(measured)
    states = {state: found["db_pool_connections", state] for state in ("in_use", "idle", "overflow")}
    assert states == {"in_use": 0, "idle": 1, "overflow": 0}
    assert found["db_pool_size",] == 2


def test_connections_in_use_and_in_overflow_are_shown_while_they_are_held(measured):
    with measured.app_context():
        held = [db.engine.connect() for _ in range(3)]
        found = scrape(measured)
        for connection in held:
            connection.close()
    states = {state: found["db_pool_connections", state] for state in ("in_use", "idle", "overflow")}
    assert states == {"in_use": 3, "idle": 0, "overflow": 1}


def test_two_applications_in_one_process_count_apart(make_app):
    first, second = make_app(), make_app()
    first.test_client().get("/things/1")
    assert ("http_requests_total", "GET", "/things/<int:number>", "200") not in scrape(second)


def test_the_answer_is_in_the_format_of_prometheus_and_not_cached(measured):
    response = measured.test_client().get("/metrics")
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"


def test_the_answer_is_in_the_format_that_the_scraper_asks_for(measured):
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    response = measured.test_client().get("/metrics", headers=accept)
    assert response.content_type.startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


TOKEN = "token-of-the-scraper-" * 2


@pytest.fixture
def guarded(settings):
    """`guarded(**settings)`: a client of an application with these, who has not logged in."""

    def make(**changes):
        return as_caller(create_app(replace(settings, **changes)).test_client(), None)

    yield make
    db.shutdown()


def test_in_production_the_figures_are_closed_until_somebody_may_see_them(guarded):
    client = guarded(app_env="production")
    assert client.get("/metrics").status_code == 401
    assert as_caller(client, Caller("user:1", 1, frozenset({"manager"}))).get("/metrics").status_code == 403
    assert as_caller(client, ADMIN).get("/metrics").status_code == 200


@pytest.mark.parametrize("environment", ["test", "production"])
def test_a_token_opens_the_figures_and_nothing_else(guarded, environment):
    client = guarded(app_env=environment, metrics_token=TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/metrics").status_code == 401
    response = client.get("/metrics", headers=bearer)
    assert (response.status_code, "http_requests_total" in response.text) == (200, True)
    assert client.get("/api/v1/users", headers=bearer).status_code == 401


@pytest.mark.parametrize(
    "sent",
    ["", "Bearer", "Bearer ", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer \xff"],
)
def test_another_token_opens_nothing(guarded, sent):
    response = guarded(metrics_token=TOKEN).get("/metrics", headers={"Authorization": sent})
    assert response.status_code == 401
    assert TOKEN not in response.text


@pytest.fixture
def gunicorn(app, settings, tmp_path):
    """The project's own gunicorn with two workers, on a migrated database: its process id and URL."""
    del app
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "APP_ENV": "test",
        "DATABASE_URL": settings.database_url,
        "PORT": str(port),
        "WEB_CONCURRENCY": "2",
        "LOG_LEVEL": "WARNING",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "gunicorn", "api.wsgi:app"]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment)
    try:
        wait_for(lambda: process.poll() is not None or fetch(f"http://127.0.0.1:{port}/livez"))
        assert process.poll() is None
        yield process.pid, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def fetch(url):
    with urlopen(url, timeout=10) as response:  # noqa: S310 - our own
        return response.read().decode()


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except (URLError, ConnectionError):
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def pool_size(url):
    return samples(fetch(f"{url}/metrics"))["db_pool_size",]


def workers(directory, master):
    """Process ids, taken from the names of the files in which the workers count."""
    counted = {int(path.stem.rpartition("_")[2]) for path in directory.glob("*/gauge_livesum_*.db")}
    return sorted(counted - {master})


def test_whichever_worker_is_asked_tells_the_figures_of_all_that_live(gunicorn, tmp_path):
    master, url = gunicorn
    sent = 0

    def both_workers_have_answered():
        nonlocal sent
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: fetch(f"{url}/readyz"), range(8)))
        sent += 8
        return pool_size(url) == 20

    wait_for(both_workers_have_answered)
    key = ("http_requests_total", "GET", "/readyz", "200")
    scrapes = [samples(fetch(f"{url}/metrics")) for _ in range(10)]
    assert [(found[key], found["db_statements_total",]) for found in scrapes] == [(sent, sent)] * 10

    killed = workers(tmp_path, master)[0]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: killed not in workers(tmp_path, master))
    # The worker that takes its place counts as soon as it has served a request, which may be this one.
    assert pool_size(url) in {10, 20}
    assert samples(fetch(f"{url}/metrics"))[key] == sent
