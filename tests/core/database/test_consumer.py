"""The consumer: every event is handled at least once, whatever fails, and by several consumers only once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier, Lock, Thread

import pytest
from sqlalchemy import func, select, text

from api.core.database import consumer as consumers
from api.core.database.consumer import Consumer, delay, states, unpark
from api.core.database.outbox import OutboxEvent, publish
from api.extensions import db
from api.resources.tags.models import Tag

pytestmark = pytest.mark.usefixtures("database")


def publish_all(*topics):
    with db.transaction() as session:
        for number, topic in enumerate(topics):
            publish(session, topic, {"number": number})


def consume(handler, **options):
    with closing(Consumer(db.session(), handler, **options)) as consumer:
        consumer.run_once()
        return consumer.tally


def left():
    with db.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(OutboxEvent.__table__))


def make_due():
    with db.transaction() as session:
        session.execute(text("UPDATE outbox_events SET available_at = now()"))


def fail(_event):
    raise ValueError("out of paper")


# -- what is handled


def test_events_are_handled_in_the_order_of_their_publication_and_are_gone_then():
    publish_all("a", "b", "c")
    seen = []
    tally = consume(seen.append, batch=2)
    assert [(event.topic, event.payload, event.attempts) for event in seen] == [
        ("a", {"number": 0}, 0),
        ("b", {"number": 1}, 0),
        ("c", {"number": 2}, 0),
    ]
    assert (tally.handled, tally.failed, left()) == (3, 0, 0)


def test_only_the_topics_that_are_asked_for_are_taken():
    publish_all("a", "b", "c", "a")
    seen = []
    consume(lambda event: seen.append(event.topic), topics=["a", "c"])
    assert (seen, left()) == (["a", "c", "a"], 1)


def test_what_a_handler_writes_is_committed_with_the_removal_of_its_event():
    publish_all("a")

    def handle(event):
        with db.transaction() as session:
            session.add(Tag(name=event.topic))
        with db.engine.connect() as other:
            assert other.scalar(select(func.count()).select_from(Tag.__table__)) == 0

    assert consume(handle).handled == 1
    assert db.session.scalar(select(Tag.name)) == "a"


def test_of_two_consumers_each_event_is_handled_by_one(app):
    publish_all(*["a"] * 200)
    seen, lock, both = [], Lock(), Barrier(2)

    def handle(event):
        time.sleep(0.001)
        with lock:
            seen.append(event.payload["number"])

    def run(_):
        with app.app_context():
            both.wait(5)
            return consume(handle, batch=10).handled

    with ThreadPoolExecutor(2) as threads:
        handled = [*threads.map(run, range(2))]
    assert sorted(seen) == [*range(200)]
    assert min(handled) > 0
    assert left() == 0


# -- what fails


def test_an_event_whose_handler_fails_stays_and_the_others_go():
    publish_all("a", "bad", "c")

    def handle(event):
        with db.transaction() as session:
            session.add(Tag(name=event.topic))
        if event.topic == "bad":
            raise ValueError("out of paper")

    tally = consume(handle)
    assert (tally.handled, tally.failed, left()) == (2, 1, 1)
    assert sorted(db.session.scalars(select(Tag.name))) == ["a", "c"]
    row = db.session.scalars(select(OutboxEvent)).one()
    assert (row.attempts, row.last_error, row.parked_at) == (1, "ValueError: out of paper", None)


def test_what_the_database_refuses_a_handler_fails_that_event_only():
    publish_all("a", "b")

    def handle(event):
        if event.topic == "a":
            db.session.execute(text("SELECT 1 / 0"))

    tally = consume(handle)
    assert (tally.handled, tally.failed) == (1, 1)


def test_a_failed_event_is_tried_again_when_its_delay_is_over_and_not_before():
    publish_all("a")
    assert consume(fail).failed == 1
    assert consume(fail).failed == 0
    make_due()
    seen = []
    assert consume(seen.append).handled == 1
    assert seen[0].attempts == 1


def test_delays_double_with_a_random_part_up_to_a_limit():
    for attempts, bound in ((1, 1), (2, 2), (5, 16), (50, 600)):
        drawn = [delay(attempts) for _ in range(200)]
        assert bound / 2 <= min(drawn) < max(drawn) <= bound


def test_an_event_that_fails_for_the_last_time_is_parked_and_seen_and_can_be_tried_again():
    publish_all("a", "b")
    consume(fail, topics=["a"], attempts=2)
    make_due()
    consume(fail, topics=["a"], attempts=2)
    make_due()
    assert consume(fail, topics=["a"]).failed == 0
    with db.transaction() as session:
        found = {state.topic: (state.waiting, state.retrying, state.parked) for state in states(session)}
    assert found == {"a": (0, 0, 1), "b": (1, 0, 0)}
    assert unpark(db.session(), ["b"]) == 0
    assert unpark(db.session()) == 1
    assert consume(lambda _: None).handled == 2


# -- how it waits


@pytest.fixture
def running(app):
    """`running(handler)`: a consumer that runs in a thread of its own, and is stopped after the test."""
    started = []

    def start(handler, **options):
        ready = Barrier(2)

        def run():
            with app.app_context():
                consumer = Consumer(db.session(), handler)
                started.append((consumer, thread))
                ready.wait(5)
                with closing(consumer):
                    consumer.run(**options)

        thread = Thread(target=run)
        thread.start()
        ready.wait(5)
        return started[-1]

    yield start
    for consumer, thread in started:
        if thread.is_alive():
            consumer.stop()
        thread.join(10)
        assert not thread.is_alive()


def until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def listeners():
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
    with db.owner_engine.connect() as connection:
        return connection.scalar(text(query))


def test_a_waiting_consumer_is_woken_by_the_commit(running):
    seen = []
    running(seen.append, poll=60)
    until(lambda: listeners() == 1)
    publish_all("a")
    until(lambda: len(seen) == 1, 2)


def test_where_no_notification_comes_it_looks_from_time_to_time(running, monkeypatch):
    monkeypatch.setattr(consumers, "CHANNEL", "nobody_calls_here")
    seen = []
    running(seen.append, poll=0.1)
    publish_all("a")
    until(lambda: len(seen) == 1)


def test_it_stops_while_it_waits_and_gives_its_connection_back(running):
    consumer, thread = running(lambda _: None, poll=60)
    until(lambda: listeners() == 1)
    consumer.stop()
    thread.join(2)
    assert not thread.is_alive()
    assert listeners() == 0


def test_it_stops_behind_the_event_at_hand_and_leaves_the_others(app):
    publish_all("a", "b", "c")
    seen = []

    def handle(event):
        seen.append(event.topic)
        consumer.stop()

    with app.app_context(), closing(Consumer(db.session(), handle)) as consumer:
        consumer.run()
    assert (seen, left()) == (["a"], 2)


def test_connections_that_are_cut_are_made_again(running):
    seen = []
    running(seen.append, poll=60)
    until(lambda: listeners() == 1)
    with db.owner_engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )
    publish_all("a")
    until(lambda: len(seen) == 1)
    until(lambda: listeners() == 1)


def test_a_handler_may_take_longer_than_a_transaction_may_idle(session):
    session.execute(text("SET idle_in_transaction_session_timeout = 50"))
    session.commit()
    publish_all("a")
    assert consume(lambda _: time.sleep(0.2)).handled == 1
    # The connection with this setting is nobody else's.
    session.remove()
    db.engine.dispose()
