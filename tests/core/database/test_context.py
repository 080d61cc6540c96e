"""Who writes is told to the database with the transaction, and with nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import text

from api.core.database.context import acting_as, begin_request, end_request, identify
from api.extensions import db

ACTING = text("SELECT current_setting('app.actor', true), current_setting('app.request_id', true)")
NOBODY = (None, ""), ("", None), (None, None), ("", "")


@pytest.fixture
def connection(engine_with):
    """One connection, the only one of its pool."""
    with engine_with(pool_size=1, max_overflow=0).connect() as connection:
        yield connection


def acting(connection):
    return tuple(connection.execute(ACTING).one())


def test_a_transaction_knows_who_acts(connection):
    with acting_as("user:17", "r-1"):
        assert acting(connection) == ("user:17", "r-1")


def test_the_next_transaction_on_the_same_connection_does_not_inherit_it(connection):
    for end in (connection.commit, connection.rollback):
        with acting_as("user:17", "r-1"):
            acting(connection)
            end()
        assert acting(connection) in NOBODY
        connection.rollback()


def test_it_travels_in_front_of_the_first_statement_and_costs_no_round_trip(connection, statements):
    raw = connection.connection
    with acting_as("user:17"), statements() as counted, closing(raw.cursor()) as cursor:
        cursor.execute("SELECT %s", [7])
        assert cursor.query.startswith(b"SELECT set_config('app.actor', 'user:17', true)")
        assert cursor.query.endswith(b";\nSELECT 7")
        assert cursor.fetchall() == [(7,)]
        cursor.execute("SELECT 8")
        assert cursor.query == b"SELECT 8"
    assert counted.count == 0


def test_where_nobody_acts_nothing_is_told(connection):
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute("SELECT 8")
        assert cursor.query == b"SELECT 8"


@pytest.mark.usefixtures("database")
def test_a_read_is_told_nothing():
    with acting_as("user:17", "r-1"), db.read_connection() as connection:
        assert acting(connection) in NOBODY


@pytest.mark.parametrize("name", ["O'Hara", "50% off", "%s", "a\\b", "%(id)s", "日本", "x'; DROP TABLE users; --"])
@pytest.mark.parametrize("parameters", [None, {"n": 1}])
def test_a_name_is_told_to_the_letter(connection, name, parameters):
    with acting_as(name):
        statement = "SELECT current_setting('app.actor', true)" + (", %(n)s" if parameters else "")
        assert connection.exec_driver_sql(statement, parameters).first()[0] == name


def test_another_one_may_go_on_in_the_same_transaction(connection):
    with acting_as("user:1"):
        acting(connection)
        with acting_as("user:2", "r-2"):
            assert acting(connection) == ("user:2", "r-2")
        assert acting(connection)[0] == "user:1"
    assert acting(connection) in NOBODY


def test_what_was_told_within_a_savepoint_that_is_undone_is_told_again(connection):
    with acting_as("user:1"):
        savepoint = connection.begin_nested()
        with acting_as("user:2"):
            acting(connection)
            savepoint.rollback()
            assert acting(connection)[0] == "user:2"
        assert acting(connection)[0] == "user:1"


def test_a_statement_that_fails_does_not_make_the_next_transaction_forget(connection):
    with acting_as("user:1"):
        with pytest.raises(Exception, match="nonsense"):
            connection.execute(text("nonsense"))
        connection.rollback()
        assert acting(connection)[0] == "user:1"


def test_threads_act_for_themselves(engine_with):
    engine = engine_with()

    def seen(number):
        with acting_as(f"user:{number}"), engine.connect() as connection:
            return acting(connection)[0]

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(seen, range(20))] == [f"user:{number}" for number in range(20)]


def test_the_sender_of_a_request_may_become_known_later(connection):
    begin_request("r-1")
    assert acting(connection) == ("", "r-1")
    identify("user:17")
    assert acting(connection) == ("user:17", "r-1")
    end_request()
    assert acting(connection) in NOBODY
