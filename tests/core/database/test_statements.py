"""`counting()` against a real PostgreSQL."""

from __future__ import annotations

from threading import Thread

import pytest
from sqlalchemy import create_engine, text

from api.core.database.statements import counting


@pytest.fixture
def connection(settings):
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_every_statement_of_the_block_is_counted(connection):
    with counting() as counted:
        connection.execute(text("SELECT 1"))
        connection.execute(text("SELECT 2"))
    assert counted.count == 2


def test_a_statement_behind_the_block_is_not_counted(connection):
    with counting() as counted:
        pass
    connection.execute(text("SELECT 1"))
    assert counted.count == 0


def test_executemany_is_one_statement(connection):
    connection.execute(text("CREATE TEMPORARY TABLE counted (number int)"))
    with counting() as counted:
        connection.execute(text("INSERT INTO counted VALUES (:number)"), [{"number": n} for n in range(5)])
    assert counted.count == 1


def test_a_statement_that_fails_counts(connection):
    with counting() as counted, pytest.raises(Exception, match="division by zero"):
        connection.execute(text("SELECT 1/0"))
    assert counted.count == 1


def test_connecting_and_pinging_count_nothing(settings):
    engine = create_engine(settings.database_url, pool_pre_ping=True)
    engine.connect().close()
    with counting() as counted, engine.connect() as pinged:
        pinged.execute(text("SELECT 1"))
        pinged.commit()
    engine.dispose()
    assert counted.count == 1


def test_texts_are_kept_when_asked_for_and_hold_no_values(connection):
    with counting(keep_texts=True) as counted:
        connection.execute(text("SELECT CAST(:word AS text)"), {"word": "secret"})
    assert counted.statements == ["SELECT CAST(%(word)s AS text)"]


def test_texts_are_not_kept_unless_asked_for(connection):
    with counting() as counted:
        connection.execute(text("SELECT 1"))
    assert counted.statements is None


def test_counters_nest_and_the_outer_one_sees_everything(connection):
    with counting() as outer:
        connection.execute(text("SELECT 1"))
        with counting() as inner:
            connection.execute(text("SELECT 2"))
        connection.execute(text("SELECT 3"))
    assert (outer.count, inner.count) == (3, 1)


def test_another_threads_statements_are_not_ours(settings):
    engine = create_engine(settings.database_url)

    def work():
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    with counting() as counted:
        thread = Thread(target=work)
        thread.start()
        thread.join()
    engine.dispose()
    assert counted.count == 0


def test_a_block_that_raises_stops_counting(connection):
    with pytest.raises(ZeroDivisionError), counting() as counted:
        raise ZeroDivisionError
    connection.execute(text("SELECT 1"))
    assert counted.count == 0
