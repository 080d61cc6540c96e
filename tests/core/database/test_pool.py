"""Connections that are lent for a read: counted, waited for and replaced as those that SQLAlchemy hands out."""

from __future__ import annotations

import threading
import time

import psycopg2
import pytest
from psycopg2.extensions import TRANSACTION_STATUS_ACTIVE
from sqlalchemy import event, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.core.database.connection import AttributedConnection
from api.core.database.watchdog import WatchedConnection
from api.core.http.server.time_limit import OutOfTimeError


@pytest.fixture
def engine(engine_with):
    """An engine with one connection, which is idle and has just answered."""
    engine = engine_with(pool_size=1, max_overflow=0, pool_timeout=5)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    return engine


def test_a_lent_connection_commits_each_statement_and_does_so_no_more_when_it_is_back(engine):
    entry = engine.pool.lend()
    assert entry.dbapi_connection.autocommit
    engine.pool.take_back(entry)
    assert not entry.dbapi_connection.autocommit


def test_a_lent_connection_counts_as_one_that_is_in_use(engine):
    entry = engine.pool.lend()
    assert (engine.pool.checkedout(), engine.pool.checkedin()) == (1, 0)
    engine.pool.take_back(entry)
    assert (engine.pool.checkedout(), engine.pool.checkedin()) == (0, 1)


def test_without_an_idle_connection_nothing_is_lent(engine, engine_with):
    assert engine_with().pool.lend() is None
    with engine.connect():
        assert engine.pool.lend() is None


def test_a_connection_that_has_not_answered_lately_is_left_to_those_who_ask_it_first(engine, monkeypatch):
    monkeypatch.setattr(WatchedConnection, "has_answered_lately", False)
    assert engine.pool.lend() is None
    assert engine.pool.checkedin() == 1


def test_where_somebody_listens_for_connections_nothing_passes_them_by(engine):
    seen = []
    event.listen(engine, "checkout", lambda *_: seen.append("taken"))
    assert engine.pool.lend() is None
    with engine.connect():
        assert seen == ["taken"]


def test_whoever_waits_for_a_connection_gets_the_one_that_comes_back(engine):
    entry = engine.pool.lend()
    got = threading.Event()

    def wait():
        with engine.connect():
            got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not got.wait(0.1)
    engine.pool.take_back(entry)
    assert got.wait(3)
    waiter.join()


def test_while_it_is_lent_others_wait_for_their_time(engine_with):
    engine = engine_with(pool_size=1, max_overflow=0, pool_timeout=0.1)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    entry = engine.pool.lend()
    with pytest.raises(PoolTimeoutError):
        engine.connect()
    engine.pool.take_back(entry)
    engine.connect().close()


def test_what_is_above_the_size_of_the_pool_is_closed_when_it_comes_back(engine_with):
    engine = engine_with(pool_size=1, max_overflow=1)
    with engine.connect() as one:
        one.execute(text("SELECT 1"))
    entry = engine.pool.lend()
    with engine.connect():
        pass
    engine.pool.take_back(entry)
    assert (engine.pool.checkedin(), engine.pool.checkedout(), engine.pool.overflow()) == (1, 0, 0)


def test_a_connection_that_is_older_than_the_recycle_time_is_replaced(engine_with):
    engine = engine_with(pool_size=1, pool_recycle=0)
    with engine.connect() as connection:
        before = connection.scalar(text("SELECT pg_backend_pid()"))
    assert engine.pool.lend() is None
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) != before


def test_a_connection_whose_answer_nobody_has_read_is_not_given_to_the_next(engine):
    entry = engine.pool.lend()
    connection = entry.dbapi_connection
    pid = connection.get_backend_pid()
    runs = threading.Thread(target=lambda: connection.cursor().execute("SELECT pg_sleep(0.5)"))
    runs.start()
    deadline = time.monotonic() + 5
    while connection.get_transaction_status() != TRANSACTION_STATUS_ACTIVE:
        assert time.monotonic() < deadline
    engine.pool.take_back(entry)
    runs.join()
    with engine.connect() as other:
        assert other.scalar(text("SELECT pg_backend_pid()")) != pid


def test_a_thread_that_is_interrupted_while_it_takes_a_connection_leaves_it_to_transactions(engine, monkeypatch):
    set_autocommit = AttributedConnection.autocommit.fset

    def interrupted(connection, value):
        set_autocommit(connection, value)
        if value:
            raise OutOfTimeError

    with monkeypatch.context() as patch:
        patch.setattr(AttributedConnection, "autocommit", AttributedConnection.autocommit.setter(interrupted))
        with pytest.raises(OutOfTimeError):
            engine.pool.lend()
    with engine.connect() as connection:
        assert not connection.connection.dbapi_connection.autocommit


def test_an_idle_connection_that_was_closed_is_in_nobody_s_way_for_long(engine):
    with engine.connect() as connection:
        driver = connection.connection.dbapi_connection
    driver.close()
    with pytest.raises(psycopg2.InterfaceError):
        engine.pool.lend()
    assert engine.pool.lend() is None
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 7")) == 7


def test_what_comes_back_after_the_pool_was_disposed_of_is_not_in_the_new_one(engine):
    pool = engine.pool
    entry = pool.lend()
    engine.dispose()
    pool.take_back(entry)
    assert engine.pool.checkedin() == 0
