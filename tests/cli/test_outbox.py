"""`flask outbox`: as a process that is stopped, killed, and loses its database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from api.core.database.embedded import EmbeddedPostgres
from api.core.database.outbox import publish
from api.extensions import db

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
# Notes what it gets in a file; goes on when the test has made another.
HANDLER = """
import time
from pathlib import Path

def note(event):
    with Path("{directory}/seen").open("a") as file:
        file.write(event.topic + "\\n")

def slow(event):
    note(event)
    while not Path("{directory}/go").exists():
        time.sleep(0.01)

def fail(event):
    raise ValueError("out of paper")
"""


@pytest.fixture
def seen(tmp_path):
    """What handlers have noted by now."""
    (tmp_path / "handler_of_test.py").write_text(HANDLER.format(directory=tmp_path))

    def read():
        path = tmp_path / "seen"
        return path.read_text().split() if path.exists() else []

    return read


@pytest.fixture
def consumer(tmp_path, seen, settings):
    """`consumer("--handler", …)`: the command as a process of its own, ended after the test."""
    del seen
    running = []

    def start(*arguments, url=settings.database_url):
        environment = {"DATABASE_URL": url, "PYTHONPATH": str(tmp_path), "LOG_LEVEL": "WARNING", "APP_ENV": "test"}
        command = [sys.executable, "-m", "flask", "--app", "api", "outbox", "consume", *arguments]
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def publish_all(*topics):
    with db.transaction() as session:
        for topic in topics:
            publish(session, topic, {"of": topic})


def run(app, *arguments):
    done = app.test_cli_runner().invoke(args=["outbox", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


# -- the commands


def test_without_a_handler_it_prints_each_event_as_a_line_of_json(database):
    publish_all("a", "b")
    *lines, tally = map(json.loads, run(database, "consume", "--once", "--json").splitlines())
    assert [(line["topic"], line["payload"], line["attempts"]) for line in lines] == [
        ("a", {"of": "a"}, 0),
        ("b", {"of": "b"}, 0),
    ]
    assert tally == {"handled": 2, "failed": 0}
    assert "empty" in run(database, "status")


def test_an_event_with_an_integer_beyond_64_bits_is_printed_and_not_parked(database):
    with db.transaction() as session:
        publish(session, "a", {"serial": 10**30})
    line, tally = map(json.loads, run(database, "consume", "--once", "--json").splitlines())
    assert line["payload"] == {"serial": 10**30}
    assert tally == {"handled": 1, "failed": 0}


def test_status_and_retry_tell_of_what_was_parked(database, seen, tmp_path, monkeypatch):
    del seen
    monkeypatch.syspath_prepend(tmp_path)
    publish_all("a", "b")
    run(database, "consume", "--once", "--topic", "a", "--handler", "handler_of_test:fail", "--attempts", "1")
    found = {state["topic"]: state for state in json.loads(run(database, "status", "--json"))}
    assert (found["a"]["parked"], found["b"]["waiting"]) == (1, 1)
    assert "a: 0 waiting, 0 to be tried again, 1 parked" in run(database, "status")
    assert json.loads(run(database, "retry", "--json")) == {"retried": 1}
    assert json.loads(run(database, "consume", "--once", "--json").splitlines()[-1])["handled"] == 2


@pytest.mark.parametrize("name", ["nowhere:function", "json:nothing", "json", "json:__name__", ":"])
def test_a_handler_that_is_not_there_is_told_in_a_sentence(database, name):
    done = database.test_cli_runner().invoke(args=["outbox", "consume", "--handler", name])
    assert done.exit_code == 2
    assert "--handler" in done.stderr


def test_a_purge_removes_what_was_parked_long_ago_and_nothing_that_waits(database):
    publish_all("parked", "waiting")
    with db.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE outbox_events SET parked_at = now() - interval '2 days' WHERE topic = 'parked'"
        )
    done = database.test_cli_runner().invoke(args=["purge", "--older-than", "1d", "--model", "outbox_events"])
    assert done.exit_code == 0, done.output
    assert [state["topic"] for state in json.loads(run(database, "status", "--json"))] == ["waiting"]


# -- as a process


@pytest.mark.usefixtures("database")
def test_an_event_is_delivered_again_when_the_consumer_is_killed_while_it_handles_it(consumer, seen, tmp_path):
    publish_all("a")
    first = consumer("--handler", "handler_of_test:slow")
    until(lambda: seen() == ["a"])
    first.kill()
    first.wait(PATIENCE)
    (tmp_path / "go").touch()
    second = consumer("--handler", "handler_of_test:slow", "--once", "--json")
    assert json.loads(second.communicate(timeout=PATIENCE)[0]) == {"handled": 1, "failed": 0}
    assert seen() == ["a", "a"]


@pytest.mark.usefixtures("database")
def test_sigterm_lets_the_event_at_hand_finish_and_leaves_the_others(consumer, seen, tmp_path):
    publish_all("a", "b")
    process = consumer("--handler", "handler_of_test:slow", "--json")
    until(lambda: seen() == ["a"])
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.poll() is None
    (tmp_path / "go").touch()
    output, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, json.loads(output)) == (0, {"handled": 1, "failed": 0})
    assert [state.topic for state in states()] == ["b"]


def states():
    from api.core.database import consumer as consumers  # noqa: PLC0415

    return consumers.states(db.session())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("database")
def test_a_signal_ends_a_consumer_that_waits(consumer, seen, number):
    publish_all("a")
    process = consumer("--handler", "handler_of_test:note", "--poll", "60")
    until(lambda: seen() == ["a"])
    time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(PATIENCE) == 0


@pytest.fixture
def own_server(server, tmp_path, app):
    """A PostgreSQL that may be stopped, with the outbox in it."""
    own = EmbeddedPostgres(tmp_path / "own", bin_directory=server._bin_directory, server_settings={"fsync": "off"})
    url = own.start()
    subprocess.run(
        [sys.executable, "-m", "flask", "--app", "api", "db", "upgrade"],
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": url},
        check=True,
        capture_output=True,
    )
    del app
    yield own
    own.stop(force=True)


def test_it_survives_a_restart_of_the_database(own_server, consumer, seen):
    def insert(topic):
        with closing(psycopg2.connect(own_server.url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO outbox_events (topic, payload) VALUES (%s, '{}')", [topic])

    insert("before")
    process = consumer("--handler", "handler_of_test:note", "--poll", "60", url=own_server.url)
    until(lambda: seen() == ["before"])
    own_server.stop(force=True)
    time.sleep(1.5)
    assert process.poll() is None, process.communicate()[1]
    own_server.start()
    insert("after")
    until(lambda: seen() == ["before", "after"])
    process.terminate()
    assert process.wait(PATIENCE) == 0
